//! The fault proxy carries out each fault that a test orders, and nothing else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cached_repo_harness::{Proxy, Redis, Strike, Trigger};

/// Long enough for a loaded machine to answer; silence takes the short one in full.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(100);
/// Far longer than any test runs: what is held for it is let go by something else.
const FOREVER: Duration = Duration::from_secs(3600);

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, command: &str) -> Result<()> {
    // One write, so that it is one request to the proxy.
    Ok(stream.write_all(format!("{command}\r\n").as_bytes())?)
}

fn expect(stream: &mut TcpStream, reply: &str) -> Result<()> {
    let mut actual = vec![0; reply.len()];
    stream.read_exact(&mut actual)?;
    ensure!(
        actual == reply.as_bytes(),
        "{:?} is not {reply:?}",
        String::from_utf8_lossy(&actual)
    );
    Ok(())
}

fn ask(stream: &mut TcpStream, command: &str, reply: &str) -> Result<()> {
    send(stream, command)?;
    expect(stream, reply)
}

/// The connection breaks without a byte.
fn expect_broken(stream: &mut TcpStream) -> Result<()> {
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => anyhow::bail!("a reply came through"),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn expect_silence(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let reply = stream.read(&mut [0]);
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    ensure!(reply.is_err(), "a reply came through: {reply:?}");
    Ok(())
}

/// Polls the server itself until a key holds a value.
fn eventually(redis: &Redis, key: &str, value: &str) -> Result<()> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    loop {
        let mut direct = connect(redis.port())?;
        write!(direct, "GET {key}\r\nQUIT\r\n")?;
        let mut reply = String::new();
        direct.read_to_string(&mut reply)?;
        if reply == format!("${}\r\n{value}\r\n+OK\r\n", value.len()) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "`{key}` never became {value}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Goal: left alone, it is a wire.
#[test]
fn it_passes_requests_and_replies() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    for n in 1..=100 {
        ask(&mut stream, "INCR n", &format!(":{n}\r\n"))?;
    }
    let long = "x".repeat(1_000_000);
    ask(
        &mut stream,
        &format!("*3\r\n$3\r\nSET\r\n$4\r\nlong\r\n${}\r\n{long}", long.len()),
        "+OK\r\n",
    )?;
    ask(&mut stream, "STRLEN long", ":1000000\r\n")?;
    assert_eq!(proxy.sprung(), 0);
    Ok(())
}

/// Goal: a request that is cut off before the server has it is not carried out, and the next
/// connection works.
#[test]
fn a_cut_before_the_request_keeps_it_from_the_server() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    ask(&mut stream, "INCR n", ":1\r\n")?;
    proxy.trap(Trigger::Any, Strike::CutBefore);
    send(&mut stream, "INCR n")?;
    expect_broken(&mut stream)?;
    assert_eq!(proxy.sprung(), 1);
    ask(&mut connect(proxy.port())?, "INCR n", ":2\r\n")
}

/// Goal: the outcome that its sender cannot know: carried out, and no reply.
#[test]
fn a_cut_after_the_request_hides_only_the_reply() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    proxy.trap(Trigger::Any, Strike::CutAfter);
    send(&mut stream, "INCR n")?;
    expect_broken(&mut stream)?;
    ask(&mut connect(proxy.port())?, "INCR n", ":2\r\n")
}

/// Goal: a zombie: the client is long gone when its command reaches the server.
#[test]
fn a_held_request_is_carried_out_after_its_sender_has_gone() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut zombie = connect(proxy.port())?;
    proxy.trap(Trigger::Any, Strike::Hold(SILENCE * 3));
    send(&mut zombie, "SET key zombie")?;
    expect_silence(&mut zombie)?;
    drop(zombie);
    // Other connections are not held.
    ask(&mut connect(proxy.port())?, "GET key", "$-1\r\n")?;
    eventually(&redis, "key", "zombie")
}

/// Goal: a client that waits for a held request gets its reply, and later requests are answered
/// after it.
#[test]
fn a_held_request_keeps_its_place() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    proxy.trap(Trigger::Any, Strike::Hold(SILENCE * 2));
    send(&mut stream, "SET key first")?;
    expect_silence(&mut stream)?;
    send(&mut stream, "GET key")?;
    expect(&mut stream, "+OK\r\n$5\r\nfirst\r\n")
}

/// Goal: COMMIT can be struck, and nothing else.
#[test]
fn a_trap_waits_for_its_words() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    proxy.trap(Trigger::Contains(b"COMMIT".to_vec()), Strike::CutBefore);
    ask(&mut stream, "SET key value", "+OK\r\n")?;
    assert_eq!(proxy.sprung(), 0);
    send(&mut stream, "SET key COMMIT")?;
    expect_broken(&mut stream)?;
    ask(&mut connect(proxy.port())?, "GET key", "$5\r\nvalue\r\n")
}

/// Goal: each direction is slowed by what it was given.
#[test]
fn delays_apply_to_both_directions_until_it_is_calmed() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    for (to_server, to_client) in [(SILENCE, Duration::ZERO), (Duration::ZERO, SILENCE)] {
        proxy.delay(to_server, to_client);
        let began = Instant::now();
        ask(&mut stream, "PING", "+PONG\r\n")?;
        assert!(began.elapsed() >= SILENCE, "{:?}", began.elapsed());
    }
    proxy.delay(FOREVER, FOREVER);
    send(&mut stream, "PING")?;
    expect_silence(&mut stream)?;
    proxy.calm();
    expect(&mut stream, "+PONG\r\n")
}

/// Goal: after calm nothing is left of the faults: what was held is sent, traps are gone, and
/// connections are accepted.
#[test]
fn calm_ends_every_fault() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut held = connect(proxy.port())?;
    proxy.trap(Trigger::Any, Strike::Hold(FOREVER));
    send(&mut held, "SET key held")?;
    expect_silence(&mut held)?;
    proxy.trap(Trigger::Any, Strike::CutBefore);
    proxy.refuse(true);
    expect_broken(&mut connect(proxy.port())?)?;

    proxy.calm();
    expect(&mut held, "+OK\r\n")?;
    ask(&mut connect(proxy.port())?, "GET key", "$4\r\nheld\r\n")
}

/// Goal: a cut breaks what is open and lets new connections in; a proxy that is dropped keeps
/// nobody waiting.
#[test]
fn a_cut_breaks_every_connection_and_so_does_the_end() -> Result<()> {
    let redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut streams = [connect(proxy.port())?, connect(proxy.port())?];
    for stream in &mut streams {
        ask(stream, "PING", "+PONG\r\n")?;
    }
    proxy.cut();
    for stream in &mut streams {
        expect_broken(stream)?;
    }
    let mut last = connect(proxy.port())?;
    proxy.trap(Trigger::Any, Strike::Hold(FOREVER));
    send(&mut last, "SET key late")?;
    expect_silence(&mut last)?;
    let port = proxy.port();
    drop(proxy);
    expect_broken(&mut last)?;
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    ask(&mut connect(redis.port())?, "GET key", "$-1\r\n")
}

/// Goal: a server that is not there looks to the client as it does without the proxy: no service,
/// until it is back.
#[test]
fn a_server_that_is_down_breaks_connections_until_it_is_back() -> Result<()> {
    let mut redis = Redis::start()?;
    let proxy = Proxy::start(redis.port())?;
    let mut stream = connect(proxy.port())?;
    ask(&mut stream, "PING", "+PONG\r\n")?;
    redis.kill()?;
    expect_broken(&mut stream)?;
    expect_broken(&mut connect(proxy.port())?)?;
    redis.restart()?;
    ask(&mut connect(proxy.port())?, "PING", "+PONG\r\n")
}
