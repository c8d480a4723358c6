//! How processes end: by the signal that makes each clean up what lies outside its directory.

use nix::sys::signal::Signal;

/// How a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `SIGKILL`, for whatever leaves nothing behind outside its directory.
    Kill,
    /// `SIGQUIT`: PostgreSQL's immediate shutdown, which still returns its shared memory to the
    /// system.
    Quit,
    /// `SIGINT`, as Ctrl-C would, for a runner that has children of its own to end.
    Interrupt,
    /// Not at all: it soon ends by itself, and would leave something behind if it was killed, as
    /// `initdb` leaves shared memory.
    Await,
}

impl Stop {
    pub(crate) fn signal(self) -> Option<Signal> {
        match self {
            Self::Kill => Some(Signal::SIGKILL),
            Self::Quit => Some(Signal::SIGQUIT),
            Self::Interrupt => Some(Signal::SIGINT),
            Self::Await => None,
        }
    }

    /// As `kill -s` wants it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
            Self::Interrupt => "INT",
            Self::Await => "0",
        }
    }
}
