//! The control socket, asked by its own client and by others.

use std::io::{BufRead, BufReader};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::*;
use crate::live::fake::Fake;

struct Served {
    control: Control,
    handle: Arc<Fake>,
    folder: tempfile::TempDir,
}

fn served(fake: Fake) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let handle = Arc::new(fake);
    let control = serve(&folder.path().join("run/clearway.sock"), handle.clone()).unwrap();
    Served { control, handle, folder }
}

impl Served {
    fn ask(&self, request: &Request) -> Reply {
        ask(self.control.path(), request).unwrap()
    }

    /// The lines that come back for these bytes.
    fn raw(&self, bytes: &[u8]) -> Vec<String> {
        let mut stream = UnixStream::connect(self.control.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        BufReader::new(stream).lines().map(Result::unwrap).collect()
    }
}

fn flows(limit: usize) -> Request {
    Request::Flows { customer: None, vnet: None, address: None, limit }
}

#[test]
fn every_request_has_its_reply() {
    let served = served(Fake::busy());
    let Reply::Counters(counters) = served.ask(&Request::Counters) else { panic!() };
    assert_eq!(*counters, Counters::of(&served.handle.snapshot, true));
    let Reply::Flows(all) = served.ask(&flows(3)) else { panic!() };
    assert_eq!((all.flows.len(), all.more, all.flows[1].ended), (3, false, true));
    let Reply::Flows(some) = served.ask(&flows(2)) else { panic!() };
    assert_eq!((some.flows.len(), some.more), (2, true));
    let Reply::Flows(huge) = served.ask(&flows(usize::MAX)) else { panic!() };
    assert_eq!((huge.flows.len(), huge.more), (3, false));
    let other = Request::Flows { customer: Some("x".into()), vnet: None, address: None, limit: 9 };
    assert_eq!(served.ask(&other), Reply::Flows(Flows::default()));
    let Reply::Reload(done) = served.ask(&Request::Reload) else { panic!() };
    assert_eq!((done.accepted, done.generation, done.warnings), (true, Some(4), Some(1)));
    assert_eq!(served.handle.reloads.load(Ordering::Relaxed), 1);
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
}

#[test]
fn a_refused_reload_says_why() {
    let served = served(Fake { refusal: vec!["a\nb".into(), "c".into()], ..Fake::default() });
    let Reply::Reload(refused) = served.ask(&Request::Reload) else { panic!() };
    assert!(!refused.accepted && refused.generation.is_none());
    assert_eq!(refused.refused, ["a\nb", "c"]);
}

#[test]
fn lines_are_answered_one_by_one_whatever_they_are() {
    let served = served(Fake::busy());
    let lines = served.raw(
        b"{\"command\": \"ready\"}\n{\"command\":\"stop\"}\n\xff\xfe\n\n{\"command\":\"flows\",\"vnett\":\"x\"}\n\
          {\"command\":\"flows\",\"address\":\"10.1.0.4\"}\n{\"command\":\"ready\"}\n{\"command\":\"re",
    );
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[0], "{\"ready\": true}");
    assert_eq!(lines[6], lines[0]);
    for line in &lines[1..5] {
        assert!(line.starts_with("{\"error\": \"this is no request: "), "{line}");
    }
    assert!(lines[5].contains("\"localAddress\": \"10.1.0.4\", \"localPort\": 50000"), "{}", lines[5]);
}

#[test]
fn a_line_without_end_is_refused() {
    let served = served(Fake::default());
    let lines = served.raw(&vec![b'['; 4 << 20]);
    assert!(lines.is_empty() || lines[0].contains("16384 bytes at most"), "{lines:?}");
    // Nested as deep as a line allows.
    let mut deep = vec![b'['; REQUEST - 1];
    deep.push(b'\n');
    assert!(served.raw(&deep)[0].starts_with("{\"error\": "));
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
}

#[test]
fn those_who_say_nothing_are_hung_up_on() {
    let served = served(Fake::default());
    let silent: Vec<_> =
        (0..CONNECTIONS).map(|_| UnixStream::connect(served.control.path()).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(served.ask(&Request::Ready), Reply::Ready(true));
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    drop(silent);
}

#[test]
fn the_socket_is_its_owners_and_goes_with_it() {
    let Served { control, folder, .. } = served(Fake::default());
    let path = control.path().to_owned();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&folder.path().join("run"))), (0o600, 0o700));
    let began = Instant::now();
    drop(control);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(fs::read_dir(folder.path().join("run")).unwrap().count(), 0);
    let sentence = ask(&path, &Request::Ready).unwrap_err();
    assert!(sentence.starts_with("no clearway is running here: nothing listens at "), "{sentence}");
    assert!(sentence.ends_with("; start one with `clearway run CONFIG`"), "{sentence}");
}

#[test]
fn a_living_socket_is_refused_and_a_dead_one_replaced() {
    let Served { control, folder, .. } = served(Fake::default());
    let path = control.path().to_owned();
    let refused = serve(&path, Arc::new(Fake::default())).err().unwrap();
    assert!(refused.starts_with("another clearway runs here: it listens at "), "{refused}");
    assert_eq!(ask(&path, &Request::Ready), Ok(Reply::Ready(true)));
    let dead = folder.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let second = serve(&dead, Arc::new(Fake::default())).unwrap();
    assert_eq!(ask(&dead, &Request::Ready), Ok(Reply::Ready(true)));
    // Another's in its place stays.
    fs::remove_file(&dead).unwrap();
    fs::write(&dead, "mine").unwrap();
    drop(second);
    assert_eq!(fs::read_to_string(&dead).unwrap(), "mine");
    let refused = serve(&dead, Arc::new(Fake::default())).err().unwrap();
    assert!(refused.contains("is there and is no socket"), "{refused}");
}

#[test]
fn of_two_that_start_at_once_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.sock");
    drop(UnixListener::bind(&path).unwrap());
    let start = || {
        thread::spawn({
            let path = path.clone();
            move || serve(&path, Arc::new(Fake::default()))
        })
    };
    let threads: Vec<_> = (0..4).map(|_| start()).collect();
    let running: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(running.iter().filter(|r| r.is_ok()).count(), 1);
    assert_eq!(ask(&path, &Request::Ready), Ok(Reply::Ready(true)));
}

#[test]
fn what_cannot_be_is_a_sentence() {
    let long = PathBuf::from(format!("/tmp/{}", "a".repeat(200)));
    let sentence = serve(&long, Arc::new(Fake::default())).err().unwrap();
    assert!(sentence.contains("cannot be made"), "{sentence}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let sentence = serve(&file.join("c.sock"), Arc::new(Fake::default())).err().unwrap();
    assert!(sentence.contains("has no folder"), "{sentence}");
    assert!(ask(&file, &Request::Ready).unwrap_err().starts_with("no clearway is running here"));
    // Something else that listens.
    let strange = folder.path().join("strange.sock");
    let listener = UnixListener::bind(&strange).unwrap();
    let stranger = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(b"hello\n").unwrap();
    });
    assert!(ask(&strange, &Request::Ready).unwrap_err().contains("is no clearway of version"));
    stranger.join().unwrap();
}
