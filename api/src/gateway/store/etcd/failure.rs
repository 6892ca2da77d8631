//! etcd's errors, by what they say about the call.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use crate::gateway::store::{Cause, StoreError};

/// What an error of etcd or of the way to it means.
#[derive(Debug)]
pub(super) enum Fault {
    /// The call was not carried out; later it may be.
    NotDone(Cause),
    /// Whether the call was carried out is not known.
    Lost(Cause),
    /// The revision that was asked for is compacted.
    Compacted,
    /// The revision that was asked for is yet to come.
    Future,
    /// The request is larger than the server takes.
    TooLarge,
    /// The answer is larger than we take.
    TooMuch,
    /// The lease that the write names has run out.
    NoLease,
    /// Trying again does not help.
    Refused(Cause),
}

/// No answer in time.
#[derive(Debug, thiserror::Error)]
#[error("etcd did not answer in time")]
struct Silent;

impl Fault {
    pub(super) fn silent() -> Self {
        Self::Lost(Silent.into())
    }

    /// Of what precedes a write: whatever became of it, the write was not sent.
    pub(super) fn before_a_write(self) -> Self {
        match self {
            Self::Lost(cause) => Self::NotDone(cause),
            fault => fault,
        }
    }

    /// Of a call that changes nothing when it fails.
    pub(super) fn undone(self) -> StoreError {
        match self {
            Self::NotDone(cause) | Self::Lost(cause) => StoreError::Unavailable(cause),
            Self::TooLarge => StoreError::TooLarge,
            Self::Refused(cause) => StoreError::Refused(cause),
            Self::Compacted => StoreError::Unavailable("the revision was compacted".into()),
            Self::Future => StoreError::Unavailable("the revision is yet to come".into()),
            Self::TooMuch => StoreError::Refused("a value is larger than a message may be".into()),
            Self::NoLease => StoreError::Unavailable("the lease has run out".into()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => of_status(status),
            Error::TransportError(_) | Error::IoError(_) | Error::WatchError(_) => Self::Lost(error.into()),
            _ => Self::Refused(error.into()),
        }
    }
}

/// etcd's own errors begin with its name, and the texts are part of its interface (`rpctypes`).
fn of_status(status: Status) -> Fault {
    let text = status.message();
    match status.code() {
        Code::OutOfRange if text.contains("has been compacted") => Fault::Compacted,
        Code::OutOfRange if text.contains("future revision") => Fault::Future,
        // "Error, decoded message length too large" is of our own side.
        Code::OutOfRange if text.contains("decoded message length too large") => Fault::TooMuch,
        Code::InvalidArgument if text.contains("request is too large") => Fault::TooLarge,
        Code::ResourceExhausted if text.contains("larger than max") => Fault::TooLarge,
        Code::NotFound if text.contains("lease not found") => Fault::NoLease,
        // No space, too many requests: decided before anything is written.
        Code::ResourceExhausted => Fault::NotDone(status.into()),
        Code::Unavailable if text.contains("no leader") || is_connecting(&status) => {
            Fault::NotDone(status.into())
        }
        // Somebody changed users or roles; the next try carries the new number.
        Code::InvalidArgument if text.contains("auth store is old") => Fault::NotDone(status.into()),
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::NotFound
        | Code::OutOfRange => Fault::Refused(status.into()),
        _ => Fault::Lost(status.into()),
    }
}

/// Whether there was no connection: then nothing was sent.
fn is_connecting(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_leave_a_write_undone_are_told_from_those_that_do_not() {
        let undone = [
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::Unavailable, "etcdserver: no leader"),
        ];
        for (code, text) in undone {
            assert!(matches!(of_status(Status::new(code, text)), Fault::NotDone(_)), "{text}");
        }
        let lost = [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "keep-alive timed out"),
            (Code::Unknown, "transport error"),
            (Code::Cancelled, "operation was canceled"),
            (Code::Internal, "h2 protocol error"),
        ];
        for (code, text) in lost {
            assert!(matches!(of_status(Status::new(code, text)), Fault::Lost(_)), "{text}");
        }
        let refused = Status::new(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(of_status(refused), Fault::Refused(_)));
    }
}
