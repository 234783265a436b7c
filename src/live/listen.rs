//! Threads that accept connections and answer them, a few at a time.
//!
//! Each thread accepts a connection, answers it, and accepts the next: so many connections are answered at a time as there
//! are threads, the others wait in the kernel's queue, and nothing has to be counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What connections come from.
pub trait Listener: Send + Sized + 'static {
    /// A connection.
    type Stream: Stream;
    /// The next connection.
    fn next(&self) -> io::Result<Self::Stream>;
    /// The same listener once more.
    fn again(&self) -> io::Result<Self>;
    /// Lets nobody in any more, and ends all waiting for somebody.
    fn close(self);
}

/// A connection whose reads and writes end in time.
pub trait Stream: Read + Write {
    /// How long one read and one write may take.
    fn limit(&self, time: Duration) -> io::Result<()>;
    /// Nothing more will be written.
    fn finish(&self) -> io::Result<()>;
}

macro_rules! listener {
    ($listener:ty, $stream:ty) => {
        impl Listener for $listener {
            type Stream = $stream;

            fn next(&self) -> io::Result<$stream> {
                self.accept().map(|(stream, _)| stream)
            }

            fn again(&self) -> io::Result<$listener> {
                self.try_clone()
            }

            fn close(self) {
                // Linux wakes who waits in accept when a listening socket is shut down.
                let _ = <$stream>::from(OwnedFd::from(self)).shutdown(Shutdown::Both);
            }
        }

        impl Stream for $stream {
            fn limit(&self, time: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(time))?;
                self.set_write_timeout(Some(time))
            }

            fn finish(&self) -> io::Result<()> {
                self.shutdown(Shutdown::Write)
            }
        }
    };
}

listener!(TcpListener, TcpStream);
listener!(UnixListener, UnixStream);

/// How long it is waited, when it is to end, for those who are just being answered. Who is not done then hangs, or keeps
/// somebody busy who does not come to an end.
const END: Duration = Duration::from_secs(2);

/// The threads; dropping it closes the listener and waits a little for those that answer somebody. A thread that goes on
/// beyond that ends with its connection, or with the process.
pub struct Pool<L: Listener> {
    listener: Option<L>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl<L: Listener> Pool<L> {
    /// So many threads with this name, which answer connections by `answer`.
    pub fn start(
        listener: L,
        name: &str,
        threads: usize,
        answer: impl Fn(L::Stream) + Send + Sync + 'static,
    ) -> io::Result<Pool<L>> {
        let answer = Arc::new(answer);
        let stopped = Arc::new(AtomicBool::new(false));
        let mut pool = Pool { listener: None, stopped: stopped.clone(), threads: Vec::new() };
        for _ in 0..threads {
            let (listener, stopped, answer) = (listener.again()?, stopped.clone(), answer.clone());
            let thread = thread::Builder::new().name(name.to_owned());
            pool.threads.push(thread.spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    match listener.next() {
                        // A connection that ends in a panic must not take its thread away.
                        Ok(stream) => drop(catch_unwind(AssertUnwindSafe(|| answer(stream)))),
                        Err(_) if stopped.load(Ordering::Acquire) => {}
                        Err(e)
                            if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                        // Too many open files, most likely: there will be fewer.
                        Err(_) => thread::sleep(Duration::from_millis(100)),
                    }
                }
            })?);
        }
        pool.listener = Some(listener);
        Ok(pool)
    }
}

impl<L: Listener> Drop for Pool<L> {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Without a listener not all threads have started: those that wait are left to the end of the process.
        let Some(listener) = self.listener.take() else { return };
        listener.close();
        let until = Instant::now() + END;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                // What a thread panicked of it has said.
                let _ = thread.join();
            }
        }
    }
}

/// A connection and the time by which all is to be read and written.
pub struct Timed<S> {
    stream: S,
    until: Instant,
}

impl<S: Stream> Timed<S> {
    /// This long from now.
    pub fn new(stream: S, time: Duration) -> Timed<S> {
        Timed { stream, until: Instant::now() + time }
    }

    /// This long from now, once more.
    pub fn extend(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    /// Nothing more will be written. What comes in meanwhile is read, at most for so long: closing a connection with
    /// bytes unread would take from the other side what was written last.
    pub fn finish(mut self, time: Duration) {
        self.extend(time);
        if self.stream.finish().is_ok() {
            let mut rest = [0; 4096];
            while matches!(self.read(&mut rest), Ok(n) if n > 0) {}
        }
    }

    fn limit(&self) -> io::Result<()> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.limit(left)
    }
}

impl<S: Stream> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.read(buffer)
    }
}

impl<S: Stream> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
