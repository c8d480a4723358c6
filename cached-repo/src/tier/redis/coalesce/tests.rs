//! Readers against a server that answers when it is told to.

mod fixture;

use std::time::Duration;

use futures_util::{FutureExt, future::join_all};
use tokio::{runtime::Handle, task::JoinHandle};

use self::fixture::{Fixture, NEVER, TAKEN, all_found, found, get, in_time, key_of, mget, runtime};
use super::{super::scripted::LIMIT, *};

/// Goal: one reader alone pays for no task, no queue and no batch.
#[tokio::test]
async fn a_lone_reader_goes_straight_through() {
    let fixture = Fixture::new(NEVER, 10).await;
    let tasks = Handle::current().metrics().num_alive_tasks();
    let key = key_of("a");
    let mut reading = Box::pin(fixture.coalescer.get(&key));
    assert!(reading.as_mut().now_or_never().is_none());
    assert_eq!(fixture.server.received(1).await, [get("a")]);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    fixture.server.answer();
    assert!(in_time(reading).await.unwrap().0.is_some());
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    fixture.until_idle().await;
}

#[tokio::test]
async fn those_who_wait_fly_together_and_each_gets_its_own() {
    let fixture = Fixture::new(NEVER, 10).await;
    let taken = fixture.taken().await;
    let names = ["a", "no-b", "c", "d"];
    let waiting = fixture.readers(&names).await;
    fixture.server.received(TAKEN).await;
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], mget(&names));
    // While they are under way the next ones coalescer.
    let next = fixture.readers(&["e", "f"]).await;
    fixture.server.answer_all();
    all_found(taken, &["t"; TAKEN]).await;
    all_found(waiting, &names).await;
    assert_eq!(fixture.server.received(1).await, [mget(&["e", "f"])]);
    fixture.server.answer();
    all_found(next, &["e", "f"]).await;
    fixture.until_idle().await;
    // And then a reader is alone again.
    let alone = fixture.readers(&["g"]).await;
    assert_eq!(fixture.server.received(1).await, [get("g")]);
    fixture.server.answer();
    all_found(alone, &["g"]).await;
}

#[tokio::test]
async fn a_key_that_many_want_is_asked_for_once() {
    let fixture = Fixture::new(NEVER, 10).await;
    let mut readers = fixture.taken().await;
    let names = ["a", "b", "a", "no-c", "a", "no-c"];
    readers.extend(fixture.readers(&names).await);
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], mget(&["a", "b", "no-c"]));
    fixture.server.answer_all();
    let names: Vec<&str> = std::iter::repeat_n("t", TAKEN).chain(names).collect();
    all_found(readers, &names).await;
}

#[tokio::test]
async fn a_single_key_is_asked_for_by_get() {
    let fixture = Fixture::new(NEVER, 10).await;
    let mut readers = fixture.taken().await;
    readers.extend(fixture.readers(&["a", "a"]).await);
    fixture.server.answer();
    assert_eq!(fixture.server.received(TAKEN).await[TAKEN - 1], get("a"));
    fixture.server.answer_all();
    all_found(readers, &["t", "t", "t", "t", "a", "a"]).await;
}

#[tokio::test]
async fn a_batch_has_a_bound() {
    let fixture = Fixture::new(NEVER, 2 * KEYS_PER_MGET).await;
    let mut readers = fixture.taken().await;
    let names: Vec<String> = (0..=KEYS_PER_MGET).map(|id| id.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    readers.extend(fixture.readers(&names).await);
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], mget(&names[..KEYS_PER_MGET]));
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], get(names[KEYS_PER_MGET]));
    fixture.server.answer_all();
    let names: Vec<&str> = std::iter::repeat_n("t", TAKEN).chain(names).collect();
    all_found(readers, &names).await;
}

/// Goal: nothing is asked for readers that went away while they waited.
#[tokio::test]
async fn a_reader_that_goes_away_while_it_waits_is_not_read_for() {
    let fixture = Fixture::new(NEVER, 10).await;
    let taken = fixture.taken().await;
    let mut waiting = fixture.readers(&["a", "b", "c"]).await;
    let gone = waiting.remove(1);
    gone.abort();
    gone.await.unwrap_err();
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], mget(&["a", "c"]));
    fixture.server.answer_all();
    all_found(waiting, &["a", "c"]).await;
    all_found(taken, &["t"; TAKEN]).await;
    // A batch that everyone has left is not sent, and the conn is idle afterwards.
    let taken = fixture.taken().await;
    for gone in fixture.readers(&["a", "b"]).await {
        gone.abort();
        gone.await.unwrap_err();
    }
    fixture.server.answer_all();
    all_found(taken, &["t"; TAKEN]).await;
    fixture.until_idle().await;
    fixture.server.received(0).await;
}

/// Goal: whoever started a batch, all the others reads get their replies.
#[tokio::test]
async fn readers_that_go_away_in_flight_leave_the_batch_unharmed() {
    let fixture = Fixture::new(NEVER, 10).await;
    let mut taken = fixture.taken().await;
    let mut waiting = fixture.readers(&["a", "b", "c"]).await;
    // One that went straight through goes away: those who wait do not wait for its reply.
    let gone = taken.remove(0);
    gone.abort();
    gone.await.unwrap_err();
    let received = fixture.server.received(TAKEN + 1).await;
    assert_eq!(received[TAKEN], mget(&["a", "b", "c"]));
    for at in [2, 0] {
        let gone = waiting.remove(at);
        gone.abort();
        gone.await.unwrap_err();
    }
    for _ in 0..=TAKEN {
        fixture.server.answer();
    }
    all_found(taken, &["t"; TAKEN - 1]).await;
    all_found(waiting, &["b"]).await;
    fixture.until_idle().await;
}

/// Goal: callers that went straight through and are then not polled (those of a `buffered` stream
/// whose consumer reads something itself) hold up nobody, the consumer least of all.
#[tokio::test]
async fn readers_that_are_not_polled_hold_up_nobody() {
    let fixture = Fixture::new(NEVER, 10).await;
    let keys: Vec<Key> = (0..MAX_ALONE).map(|id| key_of(&id.to_string())).collect();
    let mut idle: Vec<_> = keys
        .iter()
        .map(|key| Box::pin(fixture.coalescer.get(key)))
        .collect();
    for reading in &mut idle {
        assert!(reading.as_mut().now_or_never().is_none());
    }
    fixture.server.received(MAX_ALONE).await;
    (0..MAX_ALONE).for_each(|_| fixture.server.answer());
    for name in ["a", "b", "c", "d", "e"] {
        let reader = fixture.reader(name).await;
        assert_eq!(fixture.server.received(1).await, [get(name)]);
        fixture.server.answer();
        all_found(vec![reader], &[name]).await;
    }
    for reading in idle {
        assert!(in_time(reading).await.is_ok());
    }
    fixture.until_idle().await;
}

#[tokio::test]
async fn a_full_queue_answers_at_once() {
    let fixture = Fixture::new(NEVER, 2).await;
    let taken = fixture.taken().await;
    let waiting = fixture.readers(&["a", "b"]).await;
    for _ in 0..3 {
        let refused = fixture.coalescer.get(&key_of("c")).now_or_never();
        assert!(matches!(refused, Some(Err(TierError::Overloaded))));
    }
    assert_eq!(fixture.stats.snapshot().overloaded, 3);
    fixture.server.answer();
    fixture.server.received(TAKEN).await;
    // Those who waited are under way, so there is room again.
    let next = fixture.readers(&["c"]).await;
    fixture.server.answer_all();
    all_found(taken, &["t"; TAKEN]).await;
    all_found(waiting, &["a", "b"]).await;
    fixture.server.received(1).await;
    fixture.server.answer();
    all_found(next, &["c"]).await;
    assert_eq!(fixture.stats.snapshot().overloaded, 3);
}

/// Goal: who joins a batch late has as much time as who joined it early.
#[tokio::test]
async fn each_reader_has_a_time_out_of_its_own() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let fixture = Fixture::new(TIMEOUT, 10).await;
    let timed = |reader: JoinHandle<ReadResult>| async move {
        let began = Instant::now();
        let found = found(reader).await;
        assert!(matches!(found, Err(TierError::Timeout(TIMEOUT))));
        (began, Instant::now())
    };
    let taken = fixture.taken().await;
    let early = tokio::spawn(timed(fixture.reader("early").await));
    tokio::time::sleep(TIMEOUT / 2).await;
    let late = tokio::spawn(timed(fixture.reader("late").await));
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(
        received[TAKEN - 1],
        mget(&["early", "late"]),
        "in one batch"
    );
    let early = in_time(early).await.unwrap();
    let late = in_time(late).await.unwrap();
    let a_tick = Duration::from_millis(2);
    assert!(early.1 - early.0 + a_tick >= TIMEOUT, "{early:?}");
    assert!(late.1 - late.0 + a_tick >= TIMEOUT, "{late:?}");
    assert!(late.1 - early.1 >= TIMEOUT / 4, "{early:?} {late:?}");
    let results = in_time(join_all(taken)).await;
    let in_time = results
        .into_iter()
        .filter(|found| matches!(found, Ok(Ok(_))));
    assert_eq!(in_time.count(), 1);
    // One by one, readers and not batches are counted.
    assert_eq!(fixture.stats.snapshot().timeouts, 2 + TAKEN as u64 - 1);
    fixture.until_idle().await;
}

/// Goal: who shares a key with one whose time is up in flight still gets it.
#[tokio::test]
async fn a_reader_whose_time_is_up_leaves_its_key_to_the_others() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let fixture = Fixture::new(TIMEOUT, 10).await;
    let taken = fixture.taken().await;
    let early = fixture.reader("same").await;
    tokio::time::sleep(TIMEOUT / 2).await;
    let late = fixture.reader("same").await;
    fixture.server.answer();
    let received = fixture.server.received(TAKEN).await;
    assert_eq!(received[TAKEN - 1], get("same"), "in one batch");
    assert!(matches!(
        found(early).await,
        Err(TierError::Timeout(TIMEOUT))
    ));
    fixture.server.answer_all();
    all_found(vec![late], &["same"]).await;
    in_time(join_all(taken)).await;
}

/// Goal: nothing is asked for readers whose time is up when the batch is sent.
#[tokio::test]
async fn a_reader_whose_time_is_up_is_not_read_for() {
    let fixture = Fixture::new(NEVER, 10).await;
    let taken = fixture.taken().await;
    let (reply, late) = oneshot::channel();
    fixture.coalescer.queue.lock().waiting.push_back(Reader {
        key: key_of("late"),
        began: Instant::now() - NEVER,
        reply,
    });
    let next = fixture.readers(&["a"]).await;
    fixture.server.answer();
    assert_eq!(fixture.server.received(TAKEN).await[TAKEN - 1], get("a"));
    assert!(matches!(late.await, Ok(Err(TierError::Timeout(NEVER)))));
    fixture.server.answer_all();
    all_found(next, &["a"]).await;
    all_found(taken, &["t"; TAKEN]).await;
}

/// Goal: readers that wait behind a silent server end in time too, though nobody sent anything
/// for them, and that one moment of silence does not cost the connection.
#[tokio::test]
async fn those_who_wait_behind_a_silent_server_time_out_as_well() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    // More batches than there are batches.
    const READERS: usize = 3 * MAX_READS * KEYS_PER_MGET;
    let fixture = Fixture::new(TIMEOUT, READERS).await;
    let taken = fixture.taken().await;
    let began = Instant::now();
    let names: Vec<String> = (0..READERS).map(|id| id.to_string()).collect();
    let keys: Vec<Key> = names.iter().map(|name| key_of(name)).collect();
    let waiting = join_all(keys.iter().map(|key| fixture.coalescer.get(key)));
    let ended = in_time(waiting).await;
    assert!(
        ended
            .iter()
            .all(|found| matches!(found, Err(TierError::Timeout(_))))
    );
    assert!(began.elapsed() < TIMEOUT * 3 / 2, "{:?}", began.elapsed());
    for reader in taken {
        assert!(matches!(found(reader).await, Err(TierError::Timeout(_))));
    }
    fixture.until_idle().await;
    assert_eq!(fixture.stats.snapshot().reconnects, 0);
    let counted = fixture.stats.snapshot().timeouts;
    assert_eq!(counted, (TAKEN + READERS) as u64);
}

#[tokio::test]
async fn a_server_that_dies_fails_everyone_promptly_and_later_reads_recover() {
    let fixture = Fixture::new(NEVER, 10).await;
    let mut readers = fixture.taken().await;
    let reads = fixture.readers(&["a", "b"]).await;
    fixture.server.answer();
    all_found(vec![readers.remove(0)], &["t"]).await;
    fixture.server.received(TAKEN).await;
    let waiting = fixture.readers(&["c", "d"]).await;
    fixture.server.hang_up();
    readers.extend(reads);
    for reader in readers {
        assert!(matches!(found(reader).await, Err(TierError::Failed(_))));
    }
    for reader in waiting {
        // Nothing was sent for them, or only just.
        assert!(found(reader).await.is_err());
    }
    fixture.until_idle().await;
    assert_eq!(fixture.stats.snapshot().reconnects, 1, "once");
    fixture.recovers().await;
}

/// Goal: a reply that does not fit the question is an error, not somebody else's row.
#[tokio::test]
async fn a_reply_of_the_wrong_length_is_an_error() {
    let fixture = Fixture::new(NEVER, 10).await;
    let reads = fixture.batch(&["a", "b"]).await;
    fixture.server.answer_with("*1\r\n$1\r\na\r\n");
    for reader in reads {
        assert!(matches!(found(reader).await, Err(TierError::Failed(_))));
    }
    assert_eq!(fixture.stats.snapshot().failures, 2);
}

/// Goal: a server's refusal is everyone's in the batch, and the connection stays.
#[tokio::test]
async fn a_refused_batch_fails_its_readers_and_no_other() {
    let fixture = Fixture::new(NEVER, 10).await;
    let reads = fixture.batch(&["a", "b"]).await;
    fixture.server.answer_with("-ERR not today\r\n");
    for reader in reads {
        let Err(TierError::Failed(why)) = found(reader).await else {
            panic!("it was refused");
        };
        assert!(why.contains("not today"), "{why}");
    }
    assert_eq!(fixture.stats.snapshot().reconnects, 0);
    let next = fixture.readers(&["c"]).await;
    fixture.server.received(1).await;
    fixture.server.answer();
    all_found(next, &["c"]).await;
}

/// Goal: the connection lives on the runtime that opened it. Readers of another do not hang when
/// that one ends: they fail, and so do later ones.
#[tokio::test]
async fn the_end_of_the_connections_runtime_is_the_end_of_the_connection() {
    let doomed = runtime();
    let fixture = doomed.spawn(Fixture::new(NEVER, 10)).await.unwrap();
    let mut readers = fixture.taken().await;
    readers.extend(fixture.readers(&["a", "b"]).await);
    doomed.shutdown_background();
    for reader in readers {
        assert!(found(reader).await.is_err());
    }
    fixture.until_idle().await;
    for _ in 0..=TAKEN {
        let late = tokio::time::timeout(LIMIT, fixture.coalescer.get(&key_of("late"))).await;
        assert!(late.expect("a reader hangs").is_err());
    }
    fixture.until_idle().await;
}

/// Goal: a batch does not run on the runtime of the reader that started it: the end of that runtime
/// concerns nobody else.
#[tokio::test]
async fn the_end_of_a_readers_runtime_concerns_nobody_else() {
    let fixture = Arc::new(Fixture::new(NEVER, 10).await);
    let doomed = runtime();
    let alone = fixture.readers(&["t"; MAX_ALONE]).await;
    let sender = doomed.spawn({
        let coalescer = Arc::clone(&fixture.coalescer);
        async move { coalescer.get(&key_of("sender")).await }
    });
    fixture.server.received(TAKEN).await;
    let waiting = fixture.readers(&["a", "b"]).await;
    doomed.shutdown_background();
    assert!(sender.await.unwrap_err().is_cancelled());
    fixture.server.answer_all();
    all_found(alone, &["t"; MAX_ALONE]).await;
    fixture.server.received(1).await;
    fixture.server.answer_all();
    all_found(waiting, &["a", "b"]).await;
    fixture.until_idle().await;
}
