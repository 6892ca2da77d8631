//! What librdkafka's clients report of themselves, and waiting for their blocking calls.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, PoisonError},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::log::LogError;

/// Keeps the latest complaint of any client: it says why a request timed out.
#[derive(Clone, Debug, Default)]
pub(super) struct Reports(Arc<Mutex<Option<String>>>);

impl Reports {
    /// The error of a request that brokers did not answer, with the latest complaint.
    pub(super) fn unavailable(&self, error: impl Display) -> LogError {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LogError::Unavailable(match latest {
            Some(complaint) => format!("{error}; kafka's client last reported: {complaint}"),
            None => error.to_string(),
        })
    }

    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
        // "All brokers are down" follows upon the reason for which the last of them is.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            return;
        }
        self.keep(reason);
    }

    /// Passes one line of librdkafka's on. What needs an operator reaches him as an error of the request that failed.
    pub(super) fn log_line(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.note_line(facility, line);
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka client: {line}");
            }
            _ => tracing::debug!(facility, "kafka client: {line}"),
        }
    }

    /// A broker that hangs up is told in a line of the log only. One that does so before it has said anything most
    /// likely expects another protocol; later ones close idle connections.
    fn note_line(&self, facility: &str, line: &str) {
        if facility == "FAIL" && line.contains("Disconnected") && line.contains("APIVERSION_QUERY") {
            self.keep(&format!("{line}: does it expect TLS or SASL (security.protocol)?"));
        }
    }

    fn keep(&self, complaint: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint.to_owned());
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

/// Runs a call of librdkafka's that blocks (each is bounded by its own timeout) where it holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(LogError::Unavailable(format!("a call of kafka's client ended early: {error}"))),
    }
}
