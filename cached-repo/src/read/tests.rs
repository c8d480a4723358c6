//! The read pipeline over an entity that has no model and a database that is a script: what the engine
//! does depends on neither.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::{DatabaseBackend, DbErr, MockDatabase, sea_query::Value as SqlValue};
use tokio::runtime::Handle;

use super::{Auditor, Budget, LoadLimit, Question, Read, Reader};
use crate::{
    cached::{Row, Source},
    catalog::Catalog,
    clock::Clock,
    config::Config,
    context::{Context, EntityContext},
    entity::description::fake::{Pair, pair},
    invalidation::{Epochs, InvalidationQueue},
    near::Generations,
    protocol::{
        Key, Token, Version,
        epoch::stamped,
        state::{Block, Fill, Lease, Leased, Loaded, Schemas, Value, Want},
    },
    session::Scope,
    tasks::Tasks,
    tier::{Tier, memory::MemoryTier},
};

struct Engine {
    tier: Arc<dyn Tier>,
    reader: Arc<Reader>,
}

/// An engine whose database answers its statements with these, one after the other.
fn engine(answers: impl IntoIterator<Item = Result<Vec<Pair>, DbErr>>) -> Engine {
    let backend = DatabaseBackend::Postgres;
    let conn = answers
        .into_iter()
        .fold(MockDatabase::new(backend), |conn, answer| match answer {
            Ok(rows) => conn.append_query_results([rows.into_iter().map(columns)]),
            Err(error) => conn.append_query_errors([error]),
        });
    let config = Config::default();
    let tier: Arc<dyn Tier> = Arc::new(MemoryTier::new(1 << 20, Clock::start()));
    let tasks = Tasks::on(Handle::current());
    let limit = Arc::new(LoadLimit::of(&config));
    let clock = Clock::start();
    let epochs = Epochs::new(&tier, Arc::new(Generations::new()), &tasks, clock);
    let (shared, outdate) = (Arc::clone(&tier), Arc::clone(&epochs));
    let context = Arc::new(Context {
        queue: InvalidationQueue::start(shared, outdate, &config, tasks.runtime()),
        epochs,
        conn: conn.into_connection(),
        tier: Arc::clone(&tier),
        config,
        tasks,
        catalog: Catalog::new(),
    });
    let context = Arc::new(EntityContext::new(&context, pair("test", backend)));
    let reader = Reader::new(&context, None, &limit, &Arc::new(Auditor::new(0.0)));
    Engine {
        tier,
        reader: Arc::new(reader),
    }
}

fn columns(Pair(id, text): Pair) -> BTreeMap<&'static str, SqlValue> {
    BTreeMap::from([("id", id.into()), ("text", text.into())])
}

fn ada() -> Pair {
    Pair(1, "ada".into())
}

impl Engine {
    async fn find(&self, id: i64) -> Option<(Pair, Source)> {
        let context = &self.reader.context;
        let read = Read {
            reader: &self.reader,
            scope: &Scope::Pool,
            policy: context.policy,
            budget: Budget::of(context.shared.config.cache_timeout),
        };
        let question = Question::row(&context.entity, id.into());
        let found = read.find(question).await.unwrap().into_one()?;
        let Row { model, provenance } = found;
        Some((model.downcast_ref::<Pair>()?.clone(), provenance.source))
    }

    fn key(&self, id: i64) -> Key {
        self.reader.context.entity.row_key(&id.into())
    }

    async fn settled(&self) {
        self.reader.context.shared.tasks.join().await;
    }
}

/// Goal: a row and an absence are loaded once and then served.
#[tokio::test]
async fn a_row_is_loaded_once() {
    let engine = engine([Ok(vec![ada()]), Ok(vec![])]);
    assert_eq!(engine.find(1).await, Some((ada(), Source::Database)));
    assert_eq!(engine.find(2).await, None);
    engine.settled().await;
    for _ in 0..3 {
        assert_eq!(engine.find(1).await, Some((ada(), Source::Shared)));
        assert_eq!(engine.find(2).await, None);
    }
    let stats = engine.reader.context.entity.stats.snapshot();
    assert_eq!((stats.loads, stats.fills, stats.absent_hits), (2, 2, 3));
}

/// Goal: bytes that are no row of the entity are a counted miss, and are replaced.
#[tokio::test]
async fn a_corrupt_entry_is_replaced() {
    let engine = engine([Ok(vec![ada()])]);
    let (key, token) = (engine.key(1), Token::fresh());
    let lease = Lease {
        token,
        lease_ms: 1_000,
        floor: Version::ZERO,
        schemas: Schemas::default(),
        want: Want::Value,
    };
    let leased = engine.tier.lease(&key, lease).await.unwrap();
    assert_eq!(leased, Leased::Granted);
    let value = Value {
        payload: vec![b'm', 1, 2, 3, 4, 5].into(),
        schema: stamped(
            7,
            engine
                .reader
                .context
                .usable_or_asked()
                .await
                .epoch()
                .unwrap(),
        ),
        fresh_ms: 10_000,
        ttl_ms: 10_000,
        ..Value::default()
    };
    let loaded = Loaded::Row {
        version: Version::ZERO,
        value,
    };
    engine
        .tier
        .fill(&key, Fill { token, loaded })
        .await
        .unwrap();
    assert_eq!(engine.find(1).await, Some((ada(), Source::Database)));
    engine.settled().await;
    assert_eq!(engine.find(1).await, Some((ada(), Source::Shared)));
    let stats = engine.reader.context.entity.stats.snapshot();
    assert_eq!((stats.misses_corrupt, stats.loads), (1, 1));
}

/// Goal: while a write is in flight every read asks the database, and stores nothing.
#[tokio::test]
async fn nothing_is_stored_under_a_block() {
    let engine = engine([Ok(vec![ada()]), Ok(vec![ada()])]);
    let block = Block {
        token: Token::fresh(),
        block_ms: 10_000,
        tombstone_ms: 20_000,
    };
    engine.tier.block(&engine.key(1), block).await.unwrap();
    for _ in 0..2 {
        assert_eq!(engine.find(1).await, Some((ada(), Source::Database)));
        engine.settled().await;
    }
    let stats = engine.reader.context.entity.stats.snapshot();
    assert_eq!((stats.misses_writing, stats.loads, stats.fills), (2, 2, 0));
}
