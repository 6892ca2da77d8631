//! One header of a message, by name. `rdkafka`'s own look-up panics at a name that is not UTF-8, which any other producer
//! of the topic could send.

#![allow(
    unsafe_code,
    reason = "librdkafka's look-up by name is a C function that rdkafka does not wrap; it is called nowhere else"
)]

use std::{ffi::CStr, ptr, slice};

use rdkafka::{
    bindings::{rd_kafka_header_get_last, rd_kafka_message_headers},
    error::IsError,
    message::BorrowedMessage,
};

/// The value of the last header of this name; nothing when there is none or it has no value.
pub(super) fn header<'a>(message: &'a BorrowedMessage<'_>, name: &CStr) -> Option<&'a [u8]> {
    let (mut headers, mut value, mut size) = (ptr::null_mut(), ptr::null(), 0);
    // SAFETY: the message is alive while it is borrowed, and so are its headers and their values, which librdkafka parses
    // once and frees with the message. The value is read only when it was found, with the size that came with it.
    unsafe {
        if rd_kafka_message_headers(message.ptr(), &mut headers).is_error()
            || rd_kafka_header_get_last(headers, name.as_ptr(), &mut value, &mut size).is_error()
            || value.is_null()
        {
            return None;
        }
        Some(slice::from_raw_parts(value.cast(), size))
    }
}
