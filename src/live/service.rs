//! Being a service: log records, signals, and what systemd wants to know.

use std::fmt;
use std::io::{self, Write};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use tracing::info;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON document on one line.
    Json,
}

/// Writes what `tracing` records to standard error from here on, one line per record. The level is `error`, `warn`,
/// `info`, `debug` or `trace`, or says more by module, as in `info,clearway::live::kernel=debug`. The error is a sentence.
pub fn init_logs(format: LogFormat, level: &str) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(level);
    let filter =
        filter.map_err(|e| format!("log level '{level}': {e}; say error, warn, info, debug or trace"))?;
    // The journal has its own clock.
    let timed = std::env::var_os("JOURNAL_STREAM").is_none();
    let records = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false);
    // Nobody could be told that nobody can be told: it would end the thread that tries.
    let records = records.with_writer(Lines(io::stderr)).log_internal_errors(false);
    let done = match (format, timed) {
        (LogFormat::Json, _) => records.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => records.try_init(),
        (LogFormat::Text, false) => records.without_time().try_init(),
    };
    done.map_err(|e| format!("log records cannot be written: {e}"))
}

/// Makes writers that keep each record on its line: names come from users, and could hold a line feed, or what moves a
/// terminal's cursor.
struct Lines<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Lines<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Line<M::Writer> {
        Line(self.0.make_writer())
    }
}

struct Line<W>(W);

impl<W: Write> Write for Line<W> {
    /// A whole record is written at once, with its line feed.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let mut clean = String::with_capacity(line.len() + 1);
        for c in line.chars() {
            match c {
                '\n' => clean.push_str("\\n"),
                '\r' => clean.push_str("\\r"),
                '\t' => clean.push_str("\\t"),
                // So written it is right in JSON, too.
                c if c.is_control() => clean.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => clean.push(c),
            }
        }
        clean.push('\n');
        self.0.write_all(clean.as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Signals as messages, for as long as this lives. Each kind has a place of its own that one message fills: more of them
/// say nothing new, and no number of one kind keeps the other out.
pub struct Signals {
    stop: Receiver<()>,
    reload: Receiver<()>,
    handle: signal_hook::iterator::Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// From here on signals come as messages and do what they are asked for by nobody else. Those that mean nothing here,
    /// and would end the process, are written to the log.
    pub fn listen() -> io::Result<Signals> {
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        let handle = signals.handle();
        let ((say_stop, stop), (say_reload, reload)) = (bounded(1), bounded(1));
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                // A place that is filled has said it already.
                let _ = match signal {
                    SIGHUP => say_reload.try_send(()),
                    SIGUSR1 | SIGUSR2 => {
                        info!(signal, "this signal means nothing here; SIGHUP reloads, SIGTERM stops");
                        continue;
                    }
                    _ => say_stop.try_send(()),
                };
            }
        })?;
        Ok(Signals { stop, reload, handle, thread: Some(thread) })
    }

    /// Something comes out of here when it is to stop: SIGTERM or SIGINT.
    pub fn stop(&self) -> &Receiver<()> {
        &self.stop
    }

    /// Something comes out of here when the configuration is to be read again: SIGHUP.
    pub fn reload(&self) -> &Receiver<()> {
        &self.reload
    }

    /// Waits for either; false if none can come any more.
    pub fn wait(&self) -> bool {
        select! {
            recv(self.stop) -> message => message.is_ok(),
            recv(self.reload) -> message => message.is_ok(),
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").finish_non_exhaustive()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells systemd that the appliance is ready, with a sentence for `systemctl status`. This and the next ones do nothing
/// when nobody wants to know (`NOTIFY_SOCKET` is unset).
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Tells systemd that a reload begins; [`ready`] tells that it has ended, well or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Tells systemd that the appliance stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A sentence for `systemctl status`.
pub fn status(sentence: &str) {
    tell(&[NotifyState::Status(&one_line(sentence))]);
}

/// How often [`kick`] is to be called: half of what systemd waits for; none if it does not wait.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|within| within / 2).filter(|d| !d.is_zero())
}

/// Tells systemd that the workers make progress. Who calls this has seen that they do: that is what the watchdog is for.
pub fn kick() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(state: &[NotifyState<'_>]) {
    // A manager that does not listen is its own affair; a watchdog that misses this will say so.
    let _ = sd_notify::notify(state);
}

/// Messages to systemd have one line for each variable.
fn one_line(sentence: &str) -> String {
    sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A place to write to that tests can read.
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(record: impl Fn()) -> (String, String) {
        let text = Shared::default();
        let json = Shared::default();
        let (t, j) = (text.clone(), json.clone());
        let records = || tracing_subscriber::fmt().with_ansi(false).with_target(false);
        let as_text = records().with_writer(Lines(move || t.clone())).finish();
        tracing::subscriber::with_default(as_text, &record);
        let as_json = records().with_writer(Lines(move || j.clone())).json().flatten_event(true).finish();
        tracing::subscriber::with_default(as_json, &record);
        let read = |shared: Shared| String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
        (read(text), read(json))
    }

    #[test]
    fn a_record_stays_on_its_line_whatever_a_name_holds() {
        let name = "a\nb\r\x1b[31m\u{9b}c\u{85}\"ä";
        let (text, json) = logged(|| tracing::info!(customer = name, other = %name, "reload of {name} done"));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && !text.trim_end().contains(char::is_control), "{text:?}");
        assert!(text.contains("INFO reload of a\\nb") && text.contains('ä'), "{text:?}");
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["level"], &value["customer"]), (&"INFO".into(), &name.into()), "{json}");
    }

    #[test]
    fn levels_are_read() {
        assert!(init_logs(LogFormat::Text, "loud=very").unwrap_err().starts_with("log level 'loud=very': "));
        assert_eq!(init_logs(LogFormat::Text, "info,clearway::live=debug"), Ok(()));
        assert!(init_logs(LogFormat::Json, "info").is_err());
    }

    #[test]
    fn signals_become_messages_and_none_keeps_another_out() {
        let signals = Signals::listen().unwrap();
        let raise = |number| signal_hook::low_level::raise(number).unwrap();
        let next = |from: &Receiver<()>| from.recv_timeout(Duration::from_secs(60)).unwrap();
        raise(SIGHUP);
        next(signals.reload());
        for stop in [SIGTERM, SIGINT] {
            for _ in 0..16 {
                raise(SIGHUP);
                // So that these are not one and the same to the kernel.
                thread::yield_now();
            }
            // Neither of these ends the process.
            raise(SIGUSR1);
            raise(SIGUSR2);
            raise(stop);
            next(signals.stop());
        }
        next(signals.reload());
        raise(SIGINT);
        assert!(signals.wait());
        drop(signals);
    }

    #[test]
    fn messages_to_systemd_have_one_line() {
        // Without NOTIFY_SOCKET nothing happens.
        ready("2 ports");
        kick();
        assert_eq!(one_line("a\nREADY=0\r"), "a READY=0 ");
    }
}
