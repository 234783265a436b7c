//! A small web server: `/metrics`, `/healthz` and `/readyz`, and nothing else.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::handle::{Handle, Snapshot};
use super::listen::{Pool, Timed};
use super::metrics;

/// Connections that are answered at a time; the others wait their turn. Scrapers and probes are few.
const CONNECTIONS: usize = 8;

/// How long the head of a request, and how long the answer may take, each as a whole.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of the head of a request at most.
const HEAD: usize = 8192;

/// How long what nobody asked for is read behind the answer.
const LINGER: Duration = Duration::from_millis(250);

/// A running web server; it stops when this is dropped.
pub struct Server {
    address: SocketAddr,
    _pool: Pool<TcpListener>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers on this listener, in threads of its own.
pub fn serve(listener: TcpListener, handle: Arc<dyn Handle>) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let pool = Pool::start(listener, "http", CONNECTIONS, move |stream| connection(stream, &*handle))?;
    Ok(Server { address, _pool: pool })
}

/// Answers one request.
fn connection(stream: TcpStream, handle: &dyn Handle) {
    let mut stream = Timed::new(stream, PATIENCE);
    let (answer, body_wanted) = match head(&mut stream) {
        Ok(Some(head)) => answer(&head, handle),
        Ok(None) => return,
        Err(status) => (Answer::plain(status, ""), true),
    };
    stream.extend(PATIENCE);
    // Who does not take the answer goes without.
    if answer.write(&mut stream, body_wanted).is_ok() {
        stream.finish(LINGER);
    }
}

/// The head of a request; none if there is no request; or the status that refuses it.
fn head(stream: &mut impl Read) -> Result<Option<Vec<u8>>, &'static str> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let read = match stream.read(&mut piece) {
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("408 Request Timeout");
            }
            Err(_) => return Ok(None),
        };
        // The end may have begun in the piece before.
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(piece.get(..read).unwrap_or_default());
        let new = head.get(from..).unwrap_or_default();
        let ends = new.windows(4).any(|w| w == b"\r\n\r\n") || new.windows(2).any(|w| w == b"\n\n");
        match ends {
            true => return Ok(Some(head)),
            false if head.len() >= HEAD => return Err("431 Request Header Fields Too Large"),
            false if read == 0 && head.is_empty() => return Ok(None),
            false if read == 0 => return Err("400 Bad Request"),
            false => {}
        }
    }
}

/// The answer to a request, and whether its body is wanted.
fn answer(head: &[u8], handle: &dyn Handle) -> (Answer, bool) {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = *words.as_slice() else {
        return (Answer::plain("400 Bad Request", ""), true);
    };
    if method.is_empty() || !target.starts_with('/') {
        return (Answer::plain("400 Bad Request", ""), true);
    }
    if !matches!(method, "GET" | "HEAD") {
        return (Answer::plain("405 Method Not Allowed", ""), true);
    }
    let answer = match target.split('?').next().unwrap_or_default() {
        "/metrics" => Answer {
            status: "200 OK",
            kind: metrics::CONTENT_TYPE,
            body: metrics::render(&handle.snapshot(), &handle.circuits(), handle.is_ready()),
        },
        "/healthz" if handle.stands_still() => {
            Answer::plain("503 Service Unavailable", "a worker stands still")
        }
        "/healthz" => Answer::plain("200 OK", "ok"),
        "/readyz" if handle.is_ready() => Answer::plain("200 OK", "ready"),
        "/readyz" => Answer::plain("503 Service Unavailable", &not_ready(&handle.snapshot())),
        _ => Answer::plain("404 Not Found", "there are /metrics, /healthz and /readyz"),
    };
    (answer, method == "GET")
}

/// Which ports are not open; why, the log says.
fn not_ready(snapshot: &Snapshot) -> String {
    let missing = snapshot.ports.iter().filter(|port| port.configured && port.io.is_empty());
    let missing: Vec<String> =
        missing.map(|port| format!("port '{}' is not open on '{}'", port.name, port.device)).collect();
    match missing.is_empty() {
        true => "not ready: no configuration is in force".to_owned(),
        false => format!("not ready: {}", missing.join(", ")),
    }
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Answer {
    /// A sentence, or the status itself when there is none.
    fn plain(status: &'static str, sentence: &str) -> Answer {
        let sentence = if sentence.is_empty() { status } else { sentence };
        Answer { status, kind: "text/plain; charset=utf-8", body: format!("{sentence}\n") }
    }

    fn write(&self, to: &mut impl Write, body_wanted: bool) -> io::Result<()> {
        let Answer { status, kind, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            body.len(),
        );
        if body_wanted {
            text.push_str(body);
        }
        to.write_all(text.as_bytes())?;
        to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::time::Instant;

    use super::super::handle::PortFacts;
    use super::*;
    use crate::live::fake::Fake;

    fn server(handle: Fake) -> Server {
        serve(TcpListener::bind("127.0.0.1:0").unwrap(), Arc::new(handle)).unwrap()
    }

    fn connect(server: &Server) -> TcpStream {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// What comes back for these bytes.
    fn ask(server: &Server, bytes: &[u8]) -> String {
        let mut stream = connect(server);
        // The other side may have heard enough.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(server: &Server, path: &str) -> String {
        ask(server, format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes())
    }

    #[test]
    fn pages() {
        let server = server(Fake::busy());
        let metrics = get(&server, "/metrics");
        assert!(
            metrics.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.contains("\nclearway_packets_total{verdict=\"forward\"} 80\n"), "{metrics}");
        let (head, body) = metrics.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(get(&server, "/healthz").ends_with("\r\n\r\nok\n"));
        assert!(get(&server, "/readyz?verbose").starts_with("HTTP/1.1 200 "));
        assert!(get(&server, "/").starts_with("HTTP/1.1 404 "));
        let head = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn not_ready_is_said_and_still_healthy() {
        let first = server(Fake { ready: false, ..Fake::default() });
        assert!(get(&first, "/readyz").starts_with("HTTP/1.1 503 "));
        assert!(get(&first, "/healthz").starts_with("HTTP/1.1 200 "));
        let port = |name: &str, io: &str| PortFacts {
            name: name.to_owned(),
            device: "eth1".to_owned(),
            io: io.to_owned(),
            configured: name != "former",
            ..PortFacts::default()
        };
        let ports = vec![port("fabric", "af_packet"), port("edge", ""), port("former", "")];
        let snapshot = Snapshot { ports, ..Snapshot::default() };
        let server = server(Fake { ready: false, still: true, snapshot, ..Fake::default() });
        let said = get(&server, "/readyz");
        assert!(said.ends_with("\r\n\r\nnot ready: port 'edge' is not open on 'eth1'\n"), "{said}");
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 503 "));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let server = server(Fake::default());
        for (bytes, status) in [
            (&b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"[..], "405"),
            (b"GET /metrics\r\n\r\n", "400"),
            (b"GET metrics HTTP/1.1\r\n\r\n", "400"),
            (b"GET  /metrics HTTP/1.1\r\n\r\n", "400"),
            (b"GET /metrics HTTP/2\r\n\r\n", "400"),
            (b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n", "400"),
            (b"\n\n", "400"),
            (b"\r\n\r\n", "400"),
            (b"GET /healthz HTTP/1.0\n\n", "200"),
        ] {
            let answer = ask(&server, bytes);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
        }
        let answer = ask(&server, b"PUT / HTTP/1.1\r\n\r\n");
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
    }

    #[test]
    fn a_request_cut_short_is_refused_and_none_is_not_answered() {
        let server = server(Fake::default());
        let mut stream = connect(&server);
        stream.write_all(b"GET /hea").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let mut stream = connect(&server);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "");
    }

    #[test]
    fn a_huge_request_is_refused() {
        let server = server(Fake::default());
        let mut request = b"GET /metrics HTTP/1.1\r\nCookie: ".to_vec();
        request.resize(HEAD + 100, b'a');
        assert!(ask(&server, &request).starts_with("HTTP/1.1 431 "));
        // Megabytes are not waited for; the connection may break before all of it is written.
        request.resize(8 << 20, b'a');
        let mut stream = connect(&server);
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn those_who_dawdle_hold_up_others_for_two_seconds_at_most() {
        let server = server(Fake::default());
        let mut slow: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
        slow.iter_mut().for_each(|s| s.write_all(b"GET /he").unwrap());
        let began = Instant::now();
        let dawdler = std::thread::spawn(move || {
            for _ in 0..12 {
                std::thread::sleep(Duration::from_millis(250));
                // A byte now and then buys no more time; who was refused cannot write.
                slow.iter_mut().for_each(|s| drop(s.write_all(b"a")));
            }
            slow
        });
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        for mut stream in dawdler.join().unwrap() {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "));
        }
    }

    #[test]
    fn it_stops_when_dropped() {
        let server = server(Fake::default());
        let address = server.address();
        assert!(get(&server, "/healthz").starts_with("HTTP/1.1 200 "));
        let began = Instant::now();
        drop(server);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(TcpStream::connect(address).is_err());
    }
}
