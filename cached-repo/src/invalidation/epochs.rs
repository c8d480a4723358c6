//! What this process knows of the epochs of its entities, and how they are raised.
//!
//! Invariants:
//! - What is known is trusted for [`TRUST`] after it was asked for, and whoever raises an epoch waits
//!   longer. So what a read that begins then is told of is current.
//! - Near caches are told of a raised epoch only after the process knows it, or trusts no epoch: who
//!   takes a stamp then does not use an older one.
//! - A reply replaces what is known only if no epoch has come to light since it was asked for. Whatever
//!   the order of replies, each is trusted from when it was asked for.
//!
//! Does not ask by itself: a read whose trust runs out has the epochs read behind it.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    clock::{Clock, Moment, ms},
    protocol::{
        Token,
        epoch::{EpochChange, EpochReply, EpochRequest, TRUST},
    },
    tasks::Tasks,
    tier::{Invalidated, InvalidationListener, Tier, TierError},
};

/// An addition to that wait: processes read a clock that may be a tick late, and clocks do not run
/// alike.
const MARGIN: Duration = Duration::from_millis(30);

/// The epochs of all entities over one tier.
pub(crate) struct Epochs {
    me: Weak<Self>,
    tier: Arc<dyn Tier>,
    /// Who is told that any row may have changed.
    listener: Arc<dyn InvalidationListener>,
    tasks: Tasks,
    clock: Clock,
    /// Until when what is known may be used: a [`Moment`].
    trusted_until: AtomicU64,
    known: Mutex<Known>,
    refreshing: AtomicBool,
    refreshed: Notify,
}

#[derive(Default)]
struct Known {
    last: Option<EpochReply>,
    /// By what the keys of the entity start with.
    entities: HashMap<Arc<str>, Weak<Epoch>>,
    /// How often an epoch has come to light: replies to earlier questions may be older.
    changes: u64,
}

/// What is known of the epoch of one entity: the epoch, and above it whether it is blocked, or nothing.
#[derive(Debug)]
pub(crate) struct Epoch(AtomicU64);

const BLOCKED: u64 = 1 << 32;
const NOTHING: u64 = 1 << 33;

/// Until when nothing is trusted.
const DISTRUSTED: u64 = Moment::START.as_nanos();

/// Whether an entity's entries may be used and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usable {
    /// Those of this epoch.
    Of(u32),
    /// A write may be changing any row.
    Blocked,
    /// The tier must be asked first.
    Unknown,
}

impl Usable {
    /// The epoch, if there is one.
    pub(crate) fn epoch(self) -> Option<u32> {
        match self {
            Self::Of(epoch) => Some(epoch),
            Self::Blocked | Self::Unknown => None,
        }
    }
}

impl Epochs {
    pub(crate) fn new(
        tier: &Arc<dyn Tier>,
        listener: Arc<dyn InvalidationListener>,
        tasks: &Tasks,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            tier: Arc::clone(tier),
            listener,
            tasks: tasks.clone(),
            clock,
            trusted_until: AtomicU64::new(DISTRUSTED),
            known: Mutex::default(),
            refreshing: AtomicBool::new(false),
            refreshed: Notify::new(),
        })
    }

    /// What is known of the entity whose keys start with `prefix`, now and later.
    pub(crate) fn of(&self, prefix: &Arc<str>) -> Arc<Epoch> {
        let mut known = self.known.lock();
        let Known { last, entities, .. } = &mut *known;
        if let Some(epoch) = entities.get(prefix).and_then(Weak::upgrade) {
            return epoch;
        }
        // Of tenants that are gone.
        entities.retain(|_, epoch| epoch.strong_count() > 0);
        let epoch = Arc::new(Epoch(AtomicU64::new(NOTHING)));
        if let Some(reply) = last {
            epoch.learn(reply, prefix);
        }
        entities.insert(Arc::clone(prefix), Arc::downgrade(&epoch));
        epoch
    }

    /// Whether a read that begins now may use entries of an entity.
    #[inline]
    pub(crate) fn usable(&self, epoch: &Epoch) -> Usable {
        // Before the epoch, which is then as new or newer.
        let until = self.trusted_until.load(Ordering::Acquire);
        let now = self.clock.moment();
        if now.plus(TRUST / 2).as_nanos() >= until {
            self.refresh_behind();
            if now.as_nanos() >= until {
                return Usable::Unknown;
            }
        }
        epoch.known()
    }

    /// The same for a read that begins now, and asks the tier if need be.
    pub(crate) async fn usable_or_asked(&self, epoch: &Epoch) -> Usable {
        let began = self.clock.moment();
        let usable = self.usable(epoch);
        if usable != Usable::Unknown {
            return usable;
        }
        self.refresh().await;
        // The reply may have taken longer than it is trusted: it was not too old when the read began.
        if self.trusted_until.load(Ordering::Acquire) > began.as_nanos() {
            epoch.known()
        } else {
            Usable::Unknown
        }
    }

    /// The epoch under which an answer may be stored, if its SQL begins now. It may be outdated: then
    /// nobody uses the answer. The tier is asked if nothing is known.
    pub(crate) async fn storable(&self, epoch: &Epoch) -> Usable {
        if self.usable(epoch) == Usable::Unknown && epoch.known() == Usable::Unknown {
            self.refresh().await;
        }
        epoch.known()
    }

    /// Whether this is the newest epoch that has come to light.
    pub(crate) fn is_newest(&self, epoch: &Epoch, number: u32) -> bool {
        let is_distrusted = self.trusted_until.load(Ordering::Acquire) == DISTRUSTED;
        !is_distrusted && epoch.known() == Usable::Of(number)
    }

    /// Has the epochs read, and waits until they are, or the tier has failed.
    async fn refresh(&self) {
        let mut refreshed = pin!(self.refreshed.notified());
        refreshed.as_mut().enable();
        self.refresh_behind();
        refreshed.await;
    }

    /// Reads the epochs now.
    pub(crate) async fn read(&self) -> Result<(), TierError> {
        self.ask(EpochChange::Read, Vec::new()).await.map(drop)
    }

    #[cold]
    fn refresh_behind(&self) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let done = Refreshing(self.me.clone());
        let me = self.me.clone();
        self.tasks.spawn(async move {
            let _done = done;
            if let Some(me) = me.upgrade() {
                // Without a reply nothing is trusted any longer than before.
                let _ = me.read().await;
            }
        });
    }

    /// Outdates all entries of these entities: when this returns, no process uses one of them.
    pub(crate) async fn raise(&self, entities: Vec<Arc<str>>) -> Result<(), TierError> {
        self.change(EpochChange::Raise, entities).await
    }

    /// The same, and until the block ends or lapses none is used or stored. Says until when it stands:
    /// for `ttl`, and as long as this takes.
    pub(crate) async fn block(
        &self,
        entities: Vec<Arc<str>>,
        token: Token,
        ttl: Duration,
    ) -> Result<Instant, TierError> {
        let ttl = ttl + TRUST + MARGIN;
        let until = Instant::now() + ttl;
        let block_ms = ms(ttl);
        self.change(EpochChange::Block { token, block_ms }, entities)
            .await?;
        Ok(until)
    }

    /// The write has committed. Entries are outdated once more where its block does not stand.
    pub(crate) async fn end(&self, entities: Vec<Arc<str>>, token: Token) -> Result<(), TierError> {
        self.change(EpochChange::End { token }, entities).await
    }

    /// The write has changed nothing.
    pub(crate) async fn release(&self, entities: Vec<Arc<str>>, token: Token) {
        // Without a reply the block lapses by itself.
        let _ = self.change(EpochChange::Release { token }, entities).await;
    }

    /// Changes epochs, and waits until no process trusts an older one.
    async fn change(&self, change: EpochChange, entities: Vec<Arc<str>>) -> Result<(), TierError> {
        let telling = Telling(Some(self));
        let reply = self.ask(change, entities).await?;
        telling.end(&reply);
        if reply.raised && self.tier.is_shared() {
            tokio::time::sleep(TRUST + MARGIN).await;
        }
        Ok(())
    }

    async fn ask(
        &self,
        change: EpochChange,
        entities: Vec<Arc<str>>,
    ) -> Result<EpochReply, TierError> {
        let (asked, changes) = (self.clock.moment(), self.known.lock().changes);
        let request = EpochRequest {
            base: fastrand::u32(..),
            change,
            entities,
        };
        let reply = self.tier.epochs(request).await?;
        self.learn(&reply, asked, changes);
        Ok(reply)
    }

    fn learn(&self, reply: &EpochReply, asked: Moment, changes: u64) {
        let mut known = self.known.lock();
        if known.changes != changes {
            return;
        }
        if known.last.as_ref().map(|last| &last.epochs) != Some(&reply.epochs) || has_blocks(reply)
        {
            for (prefix, epoch) in &known.entities {
                if let Some(epoch) = epoch.upgrade() {
                    epoch.learn(reply, prefix);
                }
            }
        }
        known.changes += u64::from(reply.raised);
        known.last = Some(reply.clone());
        let until = asked.plus(TRUST).as_nanos();
        self.trusted_until.store(until, Ordering::Release);
    }

    /// Uses nothing of what is known any more.
    fn distrust(&self) {
        let mut known = self.known.lock();
        known.changes += 1;
        self.trusted_until.store(DISTRUSTED, Ordering::Release);
    }
}

impl Epoch {
    fn learn(&self, reply: &EpochReply, prefix: &str) {
        let (epoch, is_blocked) = reply.of(prefix);
        let blocked = if is_blocked { BLOCKED } else { 0 };
        self.0.store(u64::from(epoch) | blocked, Ordering::Release);
    }

    fn known(&self) -> Usable {
        match self.0.load(Ordering::Acquire) {
            NOTHING => Usable::Unknown,
            known if known & BLOCKED != 0 => Usable::Blocked,
            known => Usable::Of(known as u32),
        }
    }
}

/// Tells the near caches of this process that any row may have changed, whatever becomes of who
/// changes the epoch.
struct Telling<'a>(Option<&'a Epochs>);

impl Telling<'_> {
    /// The change is known.
    fn end(mut self, reply: &EpochReply) {
        if let Some(epochs) = self.0.take()
            && reply.raised
        {
            epochs.listener.on_invalidate(Invalidated::All);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if let Some(epochs) = self.0 {
            epochs.distrust();
            epochs.listener.on_invalidate(Invalidated::All);
        }
    }
}

/// Whether a block may lapse although the table stays the same.
fn has_blocks(reply: &EpochReply) -> bool {
    let mut entities = reply.epochs.entities.values();
    entities.any(|epoch| !epoch.blocks.is_empty())
}

/// A refresh that runs.
struct Refreshing(Weak<Epochs>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        if let Some(epochs) = self.0.upgrade() {
            epochs.refreshing.store(false, Ordering::Release);
            epochs.refreshed.notify_waiters();
        }
    }
}

/// What other processes announce.
impl InvalidationListener for Epochs {
    fn on_invalidate(&self, invalidated: Invalidated<'_>) {
        if invalidated == Invalidated::All {
            self.distrust();
        }
        self.listener.on_invalidate(invalidated);
    }

    fn heartbeat(&self, until: Moment) {
        self.listener.heartbeat(until);
    }

    fn on_gap(&self) {
        self.listener.on_gap();
    }
}

impl fmt::Debug for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epochs").finish_non_exhaustive()
    }
}
