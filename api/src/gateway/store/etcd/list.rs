//! Listings, asked for in parts that a message can carry.

use etcd_client::{GetOptions, GetResponse};

use super::{Etcd, Fault, versioned};
use crate::gateway::store::{Item, List, Listing, Revision, StoreError, key::end_of};

/// Items that are asked for at once. Of the usual 2 KiB they make a megabyte; where they are larger, the parts are
/// halved until one fits a message.
const PART: usize = 500;

impl Etcd {
    pub(super) async fn list(&self, list: &List<'_>) -> Result<Listing, StoreError> {
        match self.parts(list).await {
            Ok(listing) => Ok(listing),
            Err(fault) => Err(self.absent_state(fault).await),
        }
    }

    async fn parts(&self, list: &List<'_>) -> Result<Listing, Fault> {
        let mut listing =
            Listing { items: Vec::new(), revision: Revision(0), remaining: 0, unreadable: Vec::new() };
        let mut at = list.at;
        let mut start = match list.after.filter(|after| *after >= list.prefix) {
            Some(after) => behind(self.path(after)),
            None => self.path(list.prefix),
        };
        let end = self.end_of_range(list.prefix);
        let mut part = PART;
        loop {
            let want = list.limit.map_or(part, |limit| part.min(limit - listing.items.len()));
            let mut answer = match self.part(&start, &end, at, want).await {
                Err(Fault::TooMuch) if part > 1 => {
                    part = want.div_ceil(2);
                    continue;
                }
                answer => answer?,
            };
            listing.revision = at.unwrap_or_else(|| of_header(&answer));
            at = Some(listing.revision);
            let (more, count) = (answer.more(), answer.count());
            let kvs = answer.take_kvs();
            let taken = kvs.len();
            if let Some(last) = kvs.last() {
                start = behind(last.key().to_vec());
            }
            listing
                .items
                .extend(kvs.into_iter().map(|kv| Item { key: self.key(kv.key()), object: versioned(kv) }));
            let full = list.limit.is_some_and(|limit| listing.items.len() >= limit);
            if full || !more || taken == 0 {
                let remaining = usize::try_from(count).unwrap_or(0).saturating_sub(taken);
                listing.remaining = if more { remaining as u64 } else { 0 };
                return Ok(listing);
            }
        }
    }

    async fn part(
        &self,
        start: &[u8],
        end: &[u8],
        at: Option<Revision>,
        limit: usize,
    ) -> Result<GetResponse, Fault> {
        let options = GetOptions::new().with_range(end).with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let options = match at {
            Some(at) => options.with_revision(at.signed()),
            None => options,
        };
        self.calls
            .read(|mut kv| {
                let (start, options) = (start.to_vec(), options.clone());
                async move { kv.get(start, Some(options)).await }
            })
            .await
    }

    /// The end of what lies under our prefix and starts with this one.
    pub(super) fn end_of_range(&self, prefix: &str) -> Vec<u8> {
        match end_of(prefix) {
            Some(end) => self.path(&end),
            // All keys: up to the character behind the slash.
            None => [self.prefix.as_bytes(), b"0"].concat(),
        }
    }
}

fn of_header(answer: &GetResponse) -> Revision {
    Revision::of(answer.header().map_or(0, etcd_client::ResponseHeader::revision))
}

/// The least key that is greater.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}
