//! A private Redis does what a test needs of it, and leaves nothing behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use cached_repo_harness::{Redis, free_port};

/// Long enough for a loaded machine to answer; a paused server takes the short one in full.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(200);

fn connect(redis: &Redis) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port()))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    Ok(stream)
}

/// Sends one inline command and compares the reply.
fn expect(stream: &mut TcpStream, command: &str, reply: &str) -> Result<()> {
    write!(stream, "{command}\r\n")?;
    expect_reply(stream, reply)
}

fn expect_reply(stream: &mut TcpStream, reply: &str) -> Result<()> {
    let mut actual = vec![0; reply.len()];
    stream.read_exact(&mut actual)?;
    ensure!(
        actual == reply.as_bytes(),
        "{:?} is not {reply:?}",
        String::from_utf8_lossy(&actual)
    );
    Ok(())
}

/// Goal: the basic promise, a server that answers at its url.
#[test]
fn it_answers_on_the_port_of_its_url() -> Result<()> {
    let redis = Redis::start()?;
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}", redis.port()));
    expect(&mut connect(&redis)?, "PING", "+PONG\r\n")
}

/// Goal: a restart is what clients see when a cache loses its memory: same address, no data.
#[test]
fn a_restart_keeps_the_port_and_loses_the_data() -> Result<()> {
    let mut redis = Redis::start()?;
    let port = redis.port();
    expect(&mut connect(&redis)?, "SET key value", "+OK\r\n")?;
    redis.restart()?;
    assert_eq!(redis.port(), port);
    expect(&mut connect(&redis)?, "GET key", "$-1\r\n")
}

/// Goal: a killed server refuses, and can come back.
#[test]
fn a_killed_server_refuses_connections_until_it_is_restarted() -> Result<()> {
    let mut redis = Redis::start()?;
    redis.kill()?;
    assert_eq!(redis.pid(), None);
    assert!(connect(&redis).is_err());
    redis.restart()?;
    expect(&mut connect(&redis)?, "PING", "+PONG\r\n")
}

/// Goal: a pause looks like a dead network, not like a closed connection, and loses no request.
#[test]
fn a_paused_server_is_silent_and_answers_after_resume() -> Result<()> {
    let mut redis = Redis::start()?;
    let mut stream = connect(&redis)?;
    redis.pause()?;
    redis.pause()?; // twice is once

    stream.set_read_timeout(Some(SILENCE))?;
    let silence = expect(&mut stream, "PING", "+PONG\r\n").unwrap_err();
    let kind = silence
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    assert!(
        matches!(kind, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
        "{silence:?}"
    );

    redis.resume()?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    expect_reply(&mut stream, "+PONG\r\n")
}

/// Goal: dropping cleans up in every state, also in the one that ignores ordinary signals.
#[test]
fn a_dropped_server_is_gone_with_its_files_even_when_paused() -> Result<()> {
    for paused in [false, true] {
        let mut redis = Redis::start()?;
        let (port, directory) = (redis.port(), redis.directory().to_owned());
        assert!(directory.exists());
        if paused {
            redis.pause()?;
        }
        drop(redis);
        assert!(!directory.exists(), "paused: {paused}");
        assert!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(),
            "paused: {paused}"
        );
    }
    Ok(())
}

/// Goal: settings reach the server, and a test's own one wins over ours.
#[test]
fn arguments_are_directives_and_win_over_the_defaults() -> Result<()> {
    let redis = Redis::builder()
        .arg("maxmemory", "4mb")
        .arg("appendonly", "yes")
        .start()?;
    let mut stream = connect(&redis)?;
    expect(
        &mut stream,
        "CONFIG GET maxmemory",
        "*2\r\n$9\r\nmaxmemory\r\n$7\r\n4194304\r\n",
    )?;
    expect(
        &mut stream,
        "CONFIG GET appendonly",
        "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n",
    )
}

/// Goal: a server with a password counts as ready although it does not say who it is.
#[test]
fn a_server_with_a_password_starts() -> Result<()> {
    let redis = Redis::builder().arg("requirepass", "secret").start()?;
    expect(&mut connect(&redis)?, "AUTH secret", "+OK\r\n")
}

/// Goal: a port that was asked for is that port or an error, and never someone else's server.
#[test]
fn a_taken_port_is_an_error_when_it_was_asked_for() -> Result<()> {
    let port = free_port()?;
    let first = Redis::builder().port(port).start()?;
    assert_eq!(first.port(), port);
    let error = Redis::builder().port(port).start().unwrap_err();
    assert_eq!(error.to_string(), format!("port {port} is taken"));
    expect(&mut connect(&first)?, "PING", "+PONG\r\n")
}

/// Goal: a mistake in a setting is shown in the server's own words.
#[test]
fn a_server_that_does_not_start_shows_its_log() {
    let error = Redis::builder()
        .arg("no-such-directive", "1")
        .start()
        .unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("ended while starting"), "{message}");
    assert!(message.contains("no-such-directive"), "{message}");
}
