//! A TCP proxy that misbehaves on command: what a network and a dying client do to a server.
//!
//! Invariants:
//! - Bytes are never invented, reordered or dropped, except by a cut.
//! - A held request reaches the server when its time is up, also if the client has gone since: it
//!   is what a zombie sends.
//! - A request that is cut after it was sent has reached the server, which has answered it.
//! - Dropping the proxy closes every connection.
//!
//! A *request* is what one `read` of the client's socket gives: for a client that awaits its
//! replies it is one message, for one that pipelines it may be several. Protocols are not parsed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const BUFFER_BYTES: usize = 64 * 1024;

/// A proxy on a loopback port, in front of a server on another.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use cached_repo_harness::{Proxy, Redis, Strike, Trigger};
/// let redis = Redis::start()?;
/// let proxy = Proxy::start(redis.port())?;
/// println!("connect to 127.0.0.1:{}", proxy.port());
/// // The next INCR is carried out, but its sender never learns of it.
/// proxy.trap(Trigger::Contains(b"INCR".to_vec()), Strike::CutAfter);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    port: u16,
    accepting: Option<thread::JoinHandle<()>>,
}

/// Which request a trap is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The next one.
    Any,
    /// The next one with these bytes.
    Contains(Vec<u8>),
}

/// What happens to a request that springs a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The connection breaks; the server never sees the request.
    CutBefore,
    /// The server carries the request out; the connection breaks before the client has the reply.
    CutAfter,
    /// This request and what follows it on its connection reach the server so much later.
    Hold(Duration),
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    refusing: bool,
    to_server: Duration,
    to_client: Duration,
    traps: Vec<(Trigger, Strike)>,
    sprung: u64,
    /// Counts calls of `calm`: a hold from before one is over.
    calmed: u64,
    links: HashMap<u64, Arc<Link>>,
    next_link: u64,
}

/// One connection: the client's socket and ours to the server.
#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The next reply is not for the client.
    swallowing: AtomicBool,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`, a port on loopback.
    ///
    /// # Errors
    /// If no port can be bound.
    pub fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a proxy")?;
        let port = listener.local_addr().context("binding a proxy")?.port();
        let shared = Arc::new(Shared {
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self {
            shared,
            port,
            accepting: Some(accepting),
        })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on every request and every reply takes so much longer.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        let mut state = self.shared.lock();
        (state.to_server, state.to_client) = (to_server, to_client);
    }

    /// Lays a trap for one request. The oldest trap that a request springs takes it.
    pub fn trap(&self, trigger: Trigger, strike: Strike) {
        self.shared.lock().traps.push((trigger, strike));
    }

    /// How many traps were sprung.
    #[must_use]
    pub fn sprung(&self) -> u64 {
        self.shared.lock().sprung
    }

    /// Breaks every connection, now.
    pub fn cut(&self) {
        for link in self.shared.lock().links.values() {
            link.cut();
        }
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.lock().refusing = refusing;
    }

    /// Ends every delay and refusal, removes the traps, and lets go of what is held.
    pub fn calm(&self) {
        let mut state = self.shared.lock();
        state.refusing = false;
        (state.to_server, state.to_client) = (Duration::ZERO, Duration::ZERO);
        state.traps.clear();
        state.calmed += 1;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.cut();
        // Wakes the thread that accepts; if it cannot be reached it has ended.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(accepting) = self.accepting.take() {
            // It does not panic, and if it did there is nothing left to do.
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to a request.
    fn strike(&self, request: &[u8]) -> Option<Strike> {
        let mut state = self.lock();
        let at = state
            .traps
            .iter()
            .position(|(trigger, _)| trigger.is_sprung_by(request))?;
        state.sprung += 1;
        Some(state.traps.remove(at).1)
    }

    /// Waits until the time is up, everything is calmed, or the proxy ends.
    fn pause(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let deadline = Instant::now() + time;
        let mut state = self.lock();
        let calmed = state.calmed;
        while !state.closed && state.calmed == calmed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Trigger {
    fn is_sprung_by(&self, request: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Contains(bytes) => request.windows(bytes.len().max(1)).any(|at| at == bytes),
        }
    }
}

impl Link {
    fn cut(&self) {
        for socket in [&self.client, &self.server] {
            // One that is already closed needs no cut.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Accepts until the proxy ends.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let state = shared.lock();
        if state.closed {
            return;
        }
        let refusing = state.refusing;
        drop(state);
        // A client that gave up while it waited, one that is refused, and one whose server is not
        // there see the same: a connection that closes.
        if let Ok(client) = client
            && !refusing
            && let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.target))
        {
            // Without it the pumps do not start and the sockets close.
            let _ = link(shared, client, server);
        }
    }
}

/// Starts the two pumps of a connection.
fn link(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let from_client = (client.try_clone()?, server.try_clone()?);
    let from_server = (server.try_clone()?, client.try_clone()?);
    let link = Arc::new(Link {
        client,
        server,
        swallowing: AtomicBool::new(false),
    });
    let id = {
        let mut state = shared.lock();
        if state.closed {
            return Ok(());
        }
        let id = state.next_link;
        state.next_link += 1;
        state.links.insert(id, Arc::clone(&link));
        id
    };
    thread::spawn({
        let (shared, link) = (Arc::clone(shared), Arc::clone(&link));
        move || pump_requests(&shared, &link, from_client)
    });
    thread::spawn({
        let shared = Arc::clone(shared);
        move || {
            pump_replies(&shared, &link, from_server);
            shared.lock().links.remove(&id);
        }
    });
    Ok(())
}

fn pump_requests(shared: &Shared, link: &Link, (mut client, mut server): (TcpStream, TcpStream)) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let request = &buffer[..read];
        match shared.strike(request) {
            None => {}
            Some(Strike::CutBefore) => return link.cut(),
            Some(Strike::CutAfter) => link.swallowing.store(true, Ordering::SeqCst),
            Some(Strike::Hold(time)) => shared.pause(time),
        }
        let delay = shared.lock().to_server;
        shared.pause(delay);
        if shared.lock().closed {
            // What was held is not let go by the proxy's end.
            return link.cut();
        }
        if server.write_all(request).is_err() {
            break;
        }
    }
    // The server may still have to act on what it was sent; it closes when it has.
    let _ = server.shutdown(Shutdown::Write);
}

fn pump_replies(shared: &Shared, link: &Link, (mut server, mut client): (TcpStream, TcpStream)) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut client_is_there = true;
    // Goes on without the client, so that the server can finish.
    while let Ok(read @ 1..) = server.read(&mut buffer) {
        if link.swallowing.load(Ordering::SeqCst) && client_is_there {
            client_is_there = false;
            // One that is already closed needs no cut.
            let _ = client.shutdown(Shutdown::Both);
        }
        if client_is_there {
            let delay = shared.lock().to_client;
            shared.pause(delay);
            client_is_there = client.write_all(&buffer[..read]).is_ok();
        }
    }
    link.cut();
}
