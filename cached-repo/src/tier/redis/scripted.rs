//! A Redis for tests that answers when it is told to.
//!
//! It lets every connection in, and then only listens: a test sees each command as it arrives,
//! and decides when it is answered, or whether the connection breaks instead.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use deadpool_redis::Pool;
use parking_lot::Mutex;

/// What no test should take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// A command's name and its arguments.
pub(super) type Command = Vec<String>;

pub(super) struct Scripted {
    url: String,
    line: Arc<Mutex<Line>>,
}

/// The latest connection.
#[derive(Default)]
struct Line {
    stream: Option<TcpStream>,
    unanswered: VecDeque<Command>,
}

impl Scripted {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let line = Arc::<Mutex<Line>>::default();
        let shared = Arc::clone(&line);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                listen(stream.unwrap(), &shared);
            }
        });
        Self { url, line }
    }

    pub(super) fn pool(&self) -> Pool {
        deadpool_redis::Config::from_url(&self.url)
            .create_pool(Some(deadpool_redis::Runtime::Tokio1))
            .unwrap()
    }

    /// Waits until there are this many commands to answer, and says which.
    pub(super) async fn received(&self, count: usize) -> Vec<Command> {
        let received = async {
            loop {
                let unanswered: Vec<Command> =
                    self.line.lock().unanswered.iter().cloned().collect();
                if unanswered.len() >= count {
                    return unanswered;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let received = tokio::time::timeout(LIMIT, received).await;
        let received = received.expect("the server does not receive what the test waits for");
        assert_eq!(received.len(), count, "{received:?}");
        received
    }

    /// Answers the first command: every key holds its own name, unless it starts with `no-`.
    pub(super) fn answer(&self) {
        let mut line = self.line.lock();
        let command = line.unanswered.pop_front().expect("nothing to answer");
        let mut reply = String::new();
        if command[0] == "MGET" {
            reply = format!("*{}\r\n", command.len() - 1);
        }
        for key in &command[1..] {
            match key.strip_prefix("test:row:no-") {
                Some(_) => reply.push_str("$-1\r\n"),
                None => reply.push_str(&format!("${}\r\n{key}\r\n", key.len())),
            }
        }
        line.say(&reply);
    }

    /// Answers every command that has arrived.
    pub(super) fn answer_all(&self) {
        while !self.is_answered() {
            self.answer();
        }
    }

    /// Answers the first command with these very bytes.
    pub(super) fn answer_with(&self, reply: &str) {
        let mut line = self.line.lock();
        line.unanswered.pop_front().expect("nothing to answer");
        line.say(reply);
    }

    /// Whether there is nothing to answer.
    pub(super) fn is_answered(&self) -> bool {
        self.line.lock().unanswered.is_empty()
    }

    /// Breaks the connection.
    pub(super) fn hang_up(&self) {
        let mut line = self.line.lock();
        line.unanswered.clear();
        let stream = line.stream.take().expect("there is no connection");
        stream.shutdown(Shutdown::Both).unwrap();
    }
}

impl Line {
    fn say(&mut self, reply: &str) {
        let stream = self.stream.as_mut().expect("there is no connection");
        stream.write_all(reply.as_bytes()).unwrap();
    }
}

/// Reads the commands of a connection, and answers by itself what connecting asks for.
fn listen(mut stream: TcpStream, line: &Mutex<Line>) {
    *line.lock() = Line {
        stream: Some(stream.try_clone().unwrap()),
        ..Line::default()
    };
    let mut received = Vec::new();
    let mut input = vec![0; 64 * 1024];
    loop {
        let read = stream.read(&mut input).unwrap_or(0);
        if read == 0 {
            // Nobody waits for these answers any more.
            return line.lock().unanswered.clear();
        }
        received.extend_from_slice(&input[..read]);
        while let Some((command, rest)) = parse(&received) {
            let rest = received.len() - rest.len()..;
            received = received[rest].to_vec();
            let mut line = line.lock();
            match command[0].as_str() {
                "TIME" => line.say("*2\r\n$1\r\n1\r\n$1\r\n2\r\n"),
                "CLIENT" | "SCRIPT" | "PUBLISH" => line.say("+OK\r\n"),
                _ => line.unanswered.push_back(command),
            }
        }
    }
}

/// The first command, if it is complete, and what follows it: `*2 $3 GET $1 a`.
fn parse(bytes: &[u8]) -> Option<(Command, &[u8])> {
    fn line<'a>(bytes: &mut &'a [u8], mark: u8) -> Option<&'a [u8]> {
        let end = bytes.windows(2).position(|end| end == b"\r\n")?;
        let (line, rest) = bytes.split_at(end);
        assert_eq!(line.first(), Some(&mark), "not a command");
        *bytes = &rest[2..];
        Some(&line[1..])
    }
    let number = |digits: &[u8]| -> usize { std::str::from_utf8(digits).unwrap().parse().unwrap() };
    let mut rest = bytes;
    let mut command = Vec::new();
    for _ in 0..number(line(&mut rest, b'*')?) {
        let len = number(line(&mut rest, b'$')?);
        let word = rest.get(..len)?;
        rest = rest.get(len + 2..)?;
        command.push(String::from_utf8_lossy(word).into_owned());
    }
    Some((command, rest))
}
