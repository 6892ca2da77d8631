//! Writes: one transaction each, which compares and sets.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse};
use ingest::retry::Backoff;
use tokio::time::{Instant, sleep, timeout_at};

use super::{EtcdStore, Fault, calls::WAITS, versioned};
use crate::gateway::store::{Read, Revision, WriteError};

impl EtcdStore {
    /// Writes or, without a value, deletes the key where it is as expected: absent, or last changed at a revision.
    pub(super) async fn write(
        &self,
        key: &str,
        value: Option<Bytes>,
        expected: Option<Revision>,
        ttl: Option<Duration>,
    ) -> Result<Revision, WriteError> {
        let end = Instant::now() + self.etcd.calls.limit();
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            let fault = match self.try_write(key, value.as_ref(), expected, ttl, end).await {
                Ok(answer) => return self.outcome(answer),
                Err(Fault::Lost(cause)) => {
                    return self.etcd.settle(key, value.as_ref(), expected, cause).await;
                }
                Err(fault) => fault,
            };
            let wait = backoff.wait();
            let passes = matches!(fault, Fault::NotDone(_) | Fault::NoLease);
            if !passes || Instant::now() + wait >= end {
                return Err(fault.undone().into());
            }
            sleep(wait).await;
        }
    }

    async fn try_write(
        &self,
        key: &str,
        value: Option<&Bytes>,
        expected: Option<Revision>,
        ttl: Option<Duration>,
        end: Instant,
    ) -> Result<TxnResponse, Fault> {
        let lease = match ttl {
            // Nothing was written yet when there is no lease.
            Some(ttl) => Some(self.leases.take(&self.etcd.calls, ttl).await.map_err(Fault::before_a_write)?),
            None => None,
        };
        let path = self.etcd.path(key);
        let put = |value: &Bytes| {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease));
            TxnOp::put(path.clone(), value.to_vec(), options)
        };
        let change = value.map_or_else(|| TxnOp::delete(path.clone(), None), put);
        let expected = expected.map_or(0, Revision::signed);
        let txn = Txn::new()
            .when([Compare::mod_revision(path.clone(), CompareOp::Equal, expected)])
            .and_then([change])
            .or_else([TxnOp::get(path, None)]);
        let answer = match timeout_at(end, self.etcd.calls.kv().txn(txn)).await {
            Ok(answer) => answer.map_err(Fault::from),
            Err(_) => Err(Fault::silent()),
        };
        if let (Err(Fault::NoLease), Some(lease)) = (&answer, lease) {
            self.leases.forget(lease).await;
        }
        answer
    }

    fn outcome(&self, answer: TxnResponse) -> Result<Revision, WriteError> {
        let revision = Revision::of(answer.header().map_or(0, ResponseHeader::revision));
        if answer.succeeded() {
            return Ok(revision);
        }
        let value = answer.op_responses().pop().and_then(|answer| match answer {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop().map(versioned),
            _ => None,
        });
        Err(WriteError::Conflict(Read { value, revision }))
    }
}
