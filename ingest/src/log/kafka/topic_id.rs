//! The id that Kafka gave a topic when it was created. `rdkafka` does not wrap this one request, so it is made here.

#![allow(
    unsafe_code,
    reason = "rdkafka offers DescribeTopics only as librdkafka's C functions; they are called nowhere else"
)]

use std::{
    ffi::{CStr, CString, c_char},
    ptr::{self, NonNull},
    time::Duration,
};

use rdkafka::{
    ClientContext,
    bindings::{
        RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT, rd_kafka_AdminOptions_destroy, rd_kafka_AdminOptions_new,
        rd_kafka_AdminOptions_set_request_timeout, rd_kafka_DescribeTopics,
        rd_kafka_DescribeTopics_result_topics, rd_kafka_TopicCollection_destroy,
        rd_kafka_TopicCollection_of_topic_names, rd_kafka_TopicDescription_error,
        rd_kafka_TopicDescription_t, rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_base64str,
        rd_kafka_admin_op_t, rd_kafka_error_code, rd_kafka_event_DescribeTopics_result,
        rd_kafka_event_destroy, rd_kafka_event_error, rd_kafka_event_t, rd_kafka_event_type,
        rd_kafka_queue_destroy, rd_kafka_queue_new, rd_kafka_queue_poll, rd_kafka_resp_err_t,
    },
    client::Client,
    error::RDKafkaErrorCode,
};

/// Asks the cluster for the id of `topic`, in base64; nothing when there is no such topic. Blocks for `timeout` at most.
///
/// # Errors
/// Whatever librdkafka or the broker answers instead.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, RDKafkaErrorCode> {
    let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
    let answer = describe(client, &name, timeout)?;
    let description = answer.only_topic()?;
    // SAFETY: the description lives as long as `answer`, which outlives both calls; its error may be null, which is the
    // code of no error.
    let code = unsafe { rd_kafka_error_code(rd_kafka_TopicDescription_error(description.as_ptr())) };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => {}
        RDKafkaErrorCode::UnknownTopicOrPartition => return Ok(None),
        other => return Err(other),
    }
    // SAFETY: as above; the text of an id lives as long as the id, and is copied here.
    let text = unsafe {
        let id = rd_kafka_TopicDescription_topic_id(description.as_ptr());
        let text = if id.is_null() { ptr::null() } else { rd_kafka_Uuid_base64str(id) };
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.map(Some).ok_or(RDKafkaErrorCode::UnsupportedVersion)
}

/// A C object with the function that frees it.
struct Owned<T>(NonNull<T>, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Result<Self, RDKafkaErrorCode> {
        NonNull::new(pointer).map(|p| Self(p, destroy)).ok_or(RDKafkaErrorCode::CriticalSystemResource)
    }

    fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the constructor that belongs to this function and is freed only here.
        unsafe { (self.1)(self.0.as_ptr()) }
    }
}

/// The event that answers one DescribeTopics request.
struct Answer(Owned<rd_kafka_event_t>);

impl Answer {
    fn only_topic(&self) -> Result<NonNull<rd_kafka_TopicDescription_t>, RDKafkaErrorCode> {
        let mut count = 0;
        // SAFETY: `describe` has checked the event's type, so it holds a result, whose array has `count` entries; the
        // first is read only when there is one.
        let first = unsafe {
            let result = rd_kafka_event_DescribeTopics_result(self.0.as_ptr());
            let topics = rd_kafka_DescribeTopics_result_topics(result, &mut count);
            if count == 0 || topics.is_null() { ptr::null() } else { *topics }
        };
        NonNull::new(first.cast_mut()).ok_or(RDKafkaErrorCode::BadMessage)
    }
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    name: &CStr,
    timeout: Duration,
) -> Result<Answer, RDKafkaErrorCode> {
    let rk = client.native_ptr();
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    let mut complaint: [c_char; 256] = [0; 256];
    // SAFETY: `rk` is alive while `client` is borrowed, and librdkafka's functions may be called from any thread. Every
    // object is freed by its own function when its `Owned` falls, the queue last of all. The request copies the names
    // and the options before the call returns. `complaint` is as long as is said.
    unsafe {
        let queue = Owned::new(rd_kafka_queue_new(rk), rd_kafka_queue_destroy)?;
        let topics = Owned::new(
            rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            rd_kafka_TopicCollection_destroy,
        )?;
        let options = Owned::new(
            rd_kafka_AdminOptions_new(rk, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            rd_kafka_AdminOptions_destroy,
        )?;
        let set = rd_kafka_AdminOptions_set_request_timeout(
            options.as_ptr(),
            millis,
            complaint.as_mut_ptr(),
            complaint.len(),
        );
        check(set)?;
        rd_kafka_DescribeTopics(rk, topics.as_ptr(), options.as_ptr(), queue.as_ptr());
        // librdkafka answers within the request's timeout; the wait is a little longer so that its reason arrives.
        let event = rd_kafka_queue_poll(queue.as_ptr(), millis.saturating_add(1_000));
        let event =
            Owned::new(event, rd_kafka_event_destroy).map_err(|_| RDKafkaErrorCode::OperationTimedOut)?;
        check(rd_kafka_event_error(event.as_ptr()))?;
        if rd_kafka_event_type(event.as_ptr()) != RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT {
            return Err(RDKafkaErrorCode::BadMessage);
        }
        Ok(Answer(event))
    }
}

fn check(code: rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        other => Err(other),
    }
}
