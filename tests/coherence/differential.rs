//! The state machine exists twice: in Rust, which the in-process tier runs, and in Lua, which
//! Redis runs. This drives both with the same random operations under one controlled clock and
//! compares every reply and every resulting entry, byte by byte, expiry included.

use bytes::Bytes;
use cached_repo::internals::{
    Claims, Entry, Timestamp, Token, Version,
    scripts::{self, Source},
    state::{
        self, Block, Cell, Done, Fill, Lease, Loaded, Outcome, Published, Schemas, Value as Held,
        Want,
    },
    wire::{Announced, Answer, Arguments, Raw},
};
use deadpool_redis::redis::{self, Connection};
use proptest::{prelude::*, test_runner::TestRunner};

const SEQUENCES: u32 = 220;
const LONGEST_SEQUENCE: usize = 500;
/// The required number of operations; the test asserts that it was reached.
const LEAST_OPERATIONS: u64 = 100_000;

/// The test's clock: Redis's `TIME` is replaced by the last argument.
const CLOCK: &str = "local now = tonumber(ARGV[#ARGV])\n";
/// In the far future, so that Redis itself never expires a key: the test does, by its own clock.
const START: Timestamp = Timestamp::from_millis(8_000_000_000_000);

/// One step of a sequence. Tokens and versions are few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Wait {
        ms: u64,
    },
    Lease {
        who: u64,
        lease_ms: u64,
        floor: u64,
        schemas: Schemas,
        want: Want,
    },
    Fill {
        who: u64,
        found: Finding,
    },
    Block {
        who: u64,
        block_ms: u64,
        tombstone_ms: u64,
    },
    Done {
        who: u64,
        tombstone_ms: u64,
        did: Deed,
    },
    Evict,
    /// The key holds an entry of another format, which this build treats as empty.
    OtherFormat,
    /// More writers than an entry lists.
    Crowd {
        block_ms: u64,
        tombstone_ms: u64,
    },
}

#[derive(Clone, Debug)]
enum Finding {
    Row { version: u64, value: Held },
    Absent(Held),
    Nothing,
}

#[derive(Clone, Debug)]
enum Deed {
    RolledBack,
    Put {
        version: u64,
        inserted: bool,
        value: Held,
    },
    Invalidate {
        floor: u64,
    },
}

fn ms() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(7), Just(50), Just(300), 1..2000u64]
}

/// Small versions that are often equal, and large ones that Lua's numbers cannot distinguish.
fn version() -> impl Strategy<Value = u64> {
    const BEYOND_DOUBLES: u64 = 1 << 53;
    prop_oneof![
        8 => 0..6u64,
        1 => BEYOND_DOUBLES..BEYOND_DOUBLES + 3,
        1 => 9_999_999_999_999_999_997..=9_999_999_999_999_999_999u64,
    ]
}

/// Few, so that a reader can often use what it finds.
fn schema() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(0), 4 => Just(0xab_cd_ef_09), 1 => any::<u32>()]
}

fn value() -> impl Strategy<Value = Held> {
    let payload = proptest::collection::vec(any::<u8>(), 0..24);
    (payload, schema(), 0..120_000u32, ms(), ms()).prop_map(
        |(payload, schema, load_cost_ms, fresh_ms, stale_ms)| Held {
            payload: Bytes::from(payload),
            schema,
            load_cost_ms,
            fresh_ms,
            ttl_ms: fresh_ms + stale_ms,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..5u64;
    let want = prop_oneof![Just(Want::Value), Just(Want::Refresh)];
    let found = prop_oneof![
        4 => (version(), value()).prop_map(|(version, value)| Finding::Row { version, value }),
        1 => value().prop_map(Finding::Absent),
        1 => Just(Finding::Nothing),
    ];
    let did = prop_oneof![
        1 => Just(Deed::RolledBack),
        4 => (version(), any::<bool>(), value())
            .prop_map(|(version, inserted, value)| Deed::Put { version, inserted, value }),
        2 => version().prop_map(|floor| Deed::Invalidate { floor }),
    ];
    prop_oneof![
        20 => ms().prop_map(|ms| Step::Wait { ms }),
        25 => (who.clone(), ms(), version(), schema(), schema(), want).prop_map(
            |(who, lease_ms, floor, value, absence, want)| {
                let schemas = Schemas { value, absence };
                Step::Lease { who, lease_ms, floor: floor % 3, schemas, want }
            }
        ),
        20 => (who.clone(), found).prop_map(|(who, found)| Step::Fill { who, found }),
        20 => (who.clone(), ms(), ms())
            .prop_map(|(who, block_ms, tombstone_ms)| Step::Block { who, block_ms, tombstone_ms }),
        25 => (who, ms(), did).prop_map(|(who, tombstone_ms, did)| Step::Done { who, tombstone_ms, did }),
        1 => Just(Step::Evict),
        1 => Just(Step::OtherFormat),
        1 => (ms(), ms()).prop_map(|(block_ms, tombstone_ms)| Step::Crowd { block_ms, tombstone_ms }),
    ]
}

/// Indexes [`SOURCES`] and their names.
#[derive(Clone, Copy)]
enum Operation {
    Lease,
    Fill,
    Block,
    Done,
}

const SOURCES: [Source; 4] = [scripts::LEASE, scripts::FILL, scripts::BLOCK, scripts::DONE];

/// Both machines, on one key, at one time.
struct Twins<'a> {
    shas: &'a [String; 4],
    redis: Connection,
    key: String,
    /// Where changes of the key are announced, and how often that should have happened.
    channel: String,
    announced: u64,
    /// What Redis held after the last operation, and when it expires.
    stored: Option<(Bytes, u64)>,
    cell: Cell,
    now: Timestamp,
    operations: u64,
}

impl<'a> Twins<'a> {
    fn new(client: &redis::Client, shas: &'a [String; 4]) -> Self {
        Self {
            shas,
            redis: client.get_connection().unwrap(),
            key: cached_repo_harness::unique("differential"),
            channel: cached_repo_harness::unique("differential"),
            announced: 0,
            stored: None,
            cell: None,
            now: START,
            operations: 0,
        }
    }

    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Wait { ms } => self.now = self.now.plus_ms(ms),
            Step::Evict => self.evict(),
            Step::OtherFormat => self.become_another_format(),
            Step::Lease {
                who,
                lease_ms,
                floor,
                schemas,
                want,
            } => {
                let floor = Version::new(floor).unwrap();
                let request = Lease {
                    token: Token::from_bits(who),
                    lease_ms,
                    floor,
                    schemas,
                    want,
                };
                let lua = self.lua(Operation::Lease, &request).leased().unwrap();
                let rust = state::lease(&mut self.cell, self.now, &request);
                prop_assert_eq!(lua, rust);
            }
            Step::Fill { who, found } => {
                let found = match found {
                    Finding::Row { version, value } => Loaded::Row {
                        version: Version::new(version).unwrap(),
                        value,
                    },
                    Finding::Absent(value) => Loaded::Absent(value),
                    Finding::Nothing => Loaded::Nothing,
                };
                let request = Fill {
                    token: Token::from_bits(who),
                    loaded: found,
                };
                let lua = self.lua(Operation::Fill, &request).filled().unwrap();
                prop_assert_eq!(lua, state::fill(&mut self.cell, self.now, request));
            }
            Step::Block {
                who,
                block_ms,
                tombstone_ms,
            } => {
                self.block(Token::from_bits(who), block_ms, tombstone_ms)?;
            }
            Step::Crowd {
                block_ms,
                tombstone_ms,
            } => {
                for who in 0..=Claims::MAX_WRITERS as u64 {
                    self.block(Token::from_bits(1000 + who), block_ms, tombstone_ms)?;
                }
            }
            Step::Done {
                who,
                tombstone_ms,
                did,
            } => {
                let outcome = match did {
                    Deed::RolledBack => Outcome::RolledBack,
                    Deed::Put {
                        version,
                        inserted,
                        value,
                    } => Outcome::Put {
                        version: Version::new(version).unwrap(),
                        inserted,
                        value,
                    },
                    Deed::Invalidate { floor } => Outcome::Invalidate {
                        floor: Version::new(floor).unwrap(),
                    },
                };
                let request = Done {
                    token: Token::from_bits(who),
                    tombstone_ms,
                    outcome,
                };
                // A block that still stands was announced, and nobody could read since.
                let blocked = self.is_blocked_by(request.token);
                let channel = &self.channel.clone();
                let announced = Announced {
                    request: &request,
                    channel,
                };
                let lua = self.lua(Operation::Done, &announced).published().unwrap();
                let changed = matches!(lua, Published::Superseded | Published::Invalidated);
                self.announced += u64::from(changed && !blocked);
                prop_assert_eq!(lua, state::done(&mut self.cell, self.now, request));
            }
        }
        self.compare()?;
        self.expire();
        Ok(())
    }

    fn is_blocked_by(&self, token: Token) -> bool {
        let is_own = |token_there: Token| token_there == token || token_there == token.voided();
        self.cell.iter().any(|stored| {
            let mut writers = stored.entry.claims.writers().iter();
            let own = writers.rfind(|writer| is_own(writer.token));
            own.is_some_and(|own| own.until > self.now)
        })
    }

    fn block(
        &mut self,
        token: Token,
        block_ms: u64,
        tombstone_ms: u64,
    ) -> Result<(), TestCaseError> {
        let request = Block {
            token,
            block_ms,
            tombstone_ms,
        };
        let channel = &self.channel.clone();
        let announced = Announced {
            request: &request,
            channel,
        };
        self.lua(Operation::Block, &announced).blocked().unwrap();
        self.announced += 1;
        state::block(&mut self.cell, self.now, &request);
        Ok(())
    }

    /// Runs a script and reads the entry back, in one round trip.
    fn lua(&mut self, operation: Operation, request: &impl Arguments) -> Answer {
        self.operations += 1;
        let mut eval = redis::cmd("EVALSHA");
        eval.arg(&self.shas[operation as usize])
            .arg(1)
            .arg(&self.key);
        request.push(&mut eval);
        eval.arg(self.now.as_millis());
        let mut pipe = redis::pipe();
        pipe.add_command(eval)
            .cmd("GET")
            .arg(&self.key)
            .cmd("PEXPIRETIME")
            .arg(&self.key);
        let (answer, Raw(entry), expires_at): (Answer, Raw, i64) =
            pipe.query(&mut self.redis).unwrap();
        assert_eq!(answer.now(), self.now);
        self.stored = entry.map(|entry| (entry, expires_at.cast_unsigned()));
        answer
    }

    /// Forgets the key when its time is up, as both tiers do.
    fn expire(&mut self) {
        if self
            .cell
            .as_ref()
            .is_some_and(|stored| stored.expires_at < self.now)
        {
            self.evict();
        }
    }

    fn evict(&mut self) {
        self.cell = None;
        self.stored = None;
        redis::cmd("DEL")
            .arg(&self.key)
            .exec(&mut self.redis)
            .unwrap();
    }

    /// Makes the entry one of format 2, with its lease or blocks and its expiry.
    fn become_another_format(&mut self) {
        let Some((entry, _)) = self.stored.take() else {
            return;
        };
        let other = [b"2", &entry[1..]].concat();
        redis::cmd("SET")
            .arg(&self.key)
            .arg(&other)
            .arg("KEEPTTL")
            .exec(&mut self.redis)
            .unwrap();
        self.cell = None;
    }

    /// Compares what the two hold, byte by byte. An entry of another format that an operation left
    /// unchanged counts as empty for both.
    fn compare(&self) -> Result<(), TestCaseError> {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let lua = self
            .stored
            .as_ref()
            .filter(|(entry, _)| entry[0] != b'2')
            .map(|(entry, expires_at)| (shown(entry), *expires_at));
        let rust = self.cell.as_ref().map(|stored| {
            (
                shown(&stored.entry.to_bytes()),
                stored.expires_at.as_millis(),
            )
        });
        prop_assert_eq!(lua, rust);
        Ok(())
    }
}

/// Goal: an entry of format 2 counts as empty: each operation does to it what it does to an empty
/// key, also if it has a lease or blocks.
#[test]
fn an_entry_of_another_format_is_overwritten() {
    let client = redis::Client::open(cached_repo_harness::redis_url()).unwrap();
    let shas = load(&mut client.get_connection().unwrap());
    let mut twins = Twins::new(&client, &shas);
    let (who, lease_ms, block_ms, tombstone_ms) = (1, 1000, 1000, 1000);
    let lease = Step::Lease {
        who,
        lease_ms,
        floor: 0,
        schemas: Schemas::default(),
        want: Want::Value,
    };
    let block = Step::Block {
        who,
        block_ms,
        tombstone_ms,
    };
    let put = |version| Deed::Put {
        version,
        inserted: false,
        value: Held::default(),
    };
    let done = |did| Step::Done {
        who,
        tombstone_ms,
        did,
    };
    let fill = |found| Step::Fill { who, found };
    let row = || Finding::Row {
        version: 7,
        value: Held::default(),
    };
    for before in [
        &[lease.clone(), fill(row())][..],
        std::slice::from_ref(&lease),
        std::slice::from_ref(&block),
    ] {
        for after in [
            lease.clone(),
            block.clone(),
            fill(row()),
            fill(Finding::Nothing),
            done(Deed::RolledBack),
            done(put(8)),
            done(Deed::Invalidate { floor: 8 }),
        ] {
            before
                .iter()
                .for_each(|step| twins.run(step.clone()).unwrap());
            let entry = twins.stored.clone().unwrap().0;
            assert!(Entry::from_bytes(&entry).is_ok());
            twins.run(Step::OtherFormat).unwrap();
            let other = Bytes::from([b"2", &entry[1..]].concat());
            assert!(Entry::from_bytes(&other).is_err());
            twins.run(after.clone()).unwrap();
            let left = twins.stored.clone().unwrap().0;
            let is_kept = matches!(
                after,
                Step::Fill { .. }
                    | Step::Done {
                        did: Deed::RolledBack,
                        ..
                    }
            );
            assert_eq!(left == other, is_kept, "{after:?} left {left:?}");
            twins.evict();
        }
    }
}

fn load(connection: &mut Connection) -> [String; 4] {
    SOURCES.map(|source| {
        let text = source.with_clock(CLOCK);
        redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(text)
            .query::<String>(connection)
            .unwrap()
    })
}

/// Goal: no sequence of operations, at any times, makes the two differ.
#[test]
fn lua_and_rust_are_the_same_machine() {
    let client = redis::Client::open(cached_repo_harness::redis_url()).unwrap();
    let shas = load(&mut client.get_connection().unwrap());
    let total = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: SEQUENCES,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let steps = proptest::collection::vec(step(), LONGEST_SEQUENCE - 100..LONGEST_SEQUENCE);
    runner
        .run(&steps, |steps| {
            let mut twins = Twins::new(&client, &shas);
            let mut listening = client.get_connection().unwrap();
            let mut subscription = listening.as_pubsub();
            subscription.subscribe(&twins.channel).unwrap();
            for step in steps {
                twins.run(step)?;
            }
            twins.evict();
            // The end of what was announced.
            let end = || {
                redis::cmd("PUBLISH")
                    .arg(&twins.channel)
                    .arg("end")
                    .to_owned()
            };
            end().exec(&mut twins.redis).unwrap();
            let messages = std::iter::repeat_with(|| {
                subscription
                    .get_message()
                    .unwrap()
                    .get_payload::<String>()
                    .unwrap()
            });
            let messages: Vec<String> = messages.take_while(|message| message != "end").collect();
            prop_assert!(messages.iter().all(|message| *message == twins.key));
            prop_assert_eq!(messages.len() as u64, twins.announced);
            total.set(total.get() + twins.operations);
            Ok(())
        })
        .unwrap();
    println!("{} operations compared", total.get());
    assert!(
        total.get() >= LEAST_OPERATIONS,
        "only {} operations",
        total.get()
    );
}
