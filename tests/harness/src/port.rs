//! Free loopback ports.
//!
//! Between finding a port and the server binding it, anyone may take it. So a server that finds its
//! port taken is started again on another one ([`on_free_port`]), and readiness checks make sure
//! that the answer comes from our own server and not from the one that was faster.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Result, bail};

use crate::process::Launch;

/// Below the range (32768 and up on Linux, higher elsewhere) from which systems number outgoing
/// connections: a client that keeps reconnecting to a killed server must not be given that server's
/// port, or even connect to itself.
const PORTS: Range<u16> = 15_000..32_000;

const PORT_ATTEMPTS: usize = 100;
const SERVER_ATTEMPTS: usize = 8;

/// A loopback port that nobody listened on a moment ago.
///
/// # Errors
/// If a hundred ports in a row are taken.
pub fn free_port() -> Result<u16> {
    let width = u64::from(PORTS.end - PORTS.start);
    for _ in 0..PORT_ATTEMPTS {
        // Each `RandomState` has other keys: random numbers without a dependency.
        let offset = RandomState::new().hash_one(()) % width;
        let port = PORTS.start + u16::try_from(offset)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 in {PORTS:?} after {PORT_ATTEMPTS} attempts")
}

/// Calls `launch` with one free port after another until a server keeps it.
pub(crate) fn on_free_port(mut launch: impl FnMut(u16) -> Result<Launch>) -> Result<u16> {
    for _ in 0..SERVER_ATTEMPTS {
        let port = free_port()?;
        match launch(port)? {
            Launch::Ready => return Ok(port),
            Launch::PortTaken => {}
        }
    }
    bail!("{SERVER_ATTEMPTS} free ports in a row were taken before the server could bind them")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: losing the race for a port costs another attempt, not the test.
    #[test]
    fn a_taken_port_is_followed_by_another() {
        let mut tried = Vec::new();
        let port = on_free_port(|port| {
            tried.push(port);
            Ok(if tried.len() < 3 {
                Launch::PortTaken
            } else {
                Launch::Ready
            })
        });
        assert_eq!(port.unwrap(), tried[2]);
        assert_eq!(tried.len(), 3);
    }

    /// Goal: a machine on which every bind fails ends in an error, not in an endless loop.
    #[test]
    fn the_attempts_are_bounded() {
        let mut attempts = 0;
        let port = on_free_port(|_| {
            attempts += 1;
            Ok(Launch::PortTaken)
        });
        assert!(port.is_err());
        assert_eq!(attempts, SERVER_ATTEMPTS);
    }
}
