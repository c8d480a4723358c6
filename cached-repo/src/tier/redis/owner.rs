//! The owner of a namespace: a key that holds the identity of the database whose rows are cached there.
//!
//! Without it, two databases in one namespace would serve each other's rows.

use std::time::Duration;

use deadpool_redis::redis::{self, RedisError, aio::MultiplexedConnection};

use crate::tier::TierError;

/// The database that a namespace is for.
pub(super) struct Owner {
    pub(super) key: String,
    pub(super) database: String,
}

/// How long the key lasts after the last connection.
const TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Owner {
    /// Takes a namespace that is nobody's; fails if it is another database's.
    pub(super) async fn claim(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), TierError> {
        let failed = |error: RedisError| TierError::Failed(error.to_string());
        let mut claim = redis::cmd("SET");
        claim
            .arg(&self.key)
            .arg(&self.database)
            .arg("NX")
            .arg("GET");
        claim.arg("EX").arg(TTL.as_secs());
        let found: Option<String> = match claim.query_async(connection).await {
            Ok(found) => found,
            // There is no room for it: the next connection tries again.
            Err(error) if error.code() == Some("OOM") => None,
            Err(error) => return Err(failed(error)),
        };
        match found {
            Some(other) if other != self.database => Err(TierError::OtherDatabase(other)),
            None => Ok(()),
            Some(_) => redis::cmd("EXPIRE")
                .arg(&self.key)
                .arg(TTL.as_secs())
                .query_async::<()>(connection)
                .await
                .map_err(failed),
        }
    }
}
