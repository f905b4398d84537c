//! What rdkafka's safe interface leaves out of librdkafka's, for the way of a record: topic handles that are looked up
//! once instead of for each record, and a wait that ends as soon as a delivery report is there.
//!
//! The only unsafe code of the producers. Handles and queues belong to a client and are given back before it ends.

use std::ffi::{CString, c_void};
use std::sync::OnceLock;
use std::thread::Thread;

use rdkafka::bindings as sys;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::types::{RDKafka, RDKafkaRespErr};

use super::Outgoing;

/// Topics whose handles are kept. A producer of ours writes to two or three; more are looked up each time.
const KEPT_TOPICS: usize = 8;

/// A topic of one client, with librdkafka's own count of references.
struct Topic {
    name: String,
    handle: *mut sys::rd_kafka_topic_t,
}

// SAFETY: librdkafka's topic handles are reference-counted and locked inside.
unsafe impl Send for Topic {}
unsafe impl Sync for Topic {}

impl Topic {
    /// Looks the topic up at the client, or makes the client's entry for it.
    fn find(client: *mut RDKafka, name: &str) -> Result<Self, ClientError> {
        let refused = ClientError::MessageProduction;
        let text = CString::new(name).map_err(|_| refused(Code::InvalidArgument))?;
        // SAFETY: the client lives as long as `Topics`, see there; librdkafka copies the name.
        let handle = unsafe { sys::rd_kafka_topic_new(client, text.as_ptr(), std::ptr::null_mut()) };
        if handle.is_null() {
            // SAFETY: reads a number of this thread.
            return Err(refused(unsafe { sys::rd_kafka_last_error() }.into()));
        }
        Ok(Self {
            name: name.to_owned(),
            handle,
        })
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and the client is still there.
        unsafe { sys::rd_kafka_topic_destroy(self.handle) }
    }
}

/// The topics of one client. To be dropped before the client.
#[derive(Default)]
pub(super) struct Topics([OnceLock<Topic>; KEPT_TOPICS]);

impl Topics {
    /// Hands a record to librdkafka, which copies key and value and takes over the headers.
    ///
    /// # Errors
    /// librdkafka refuses; the record is as it was.
    pub fn produce(
        &self,
        client: *mut RDKafka,
        outgoing: &mut Outgoing<'_>,
        opaque: usize,
    ) -> Result<(), ClientError> {
        for slot in &self.0 {
            let topic = match slot.get() {
                Some(topic) => topic,
                // Two threads at once: one of the two handles is given back.
                None => {
                    let topic = Topic::find(client, outgoing.topic)?;
                    slot.get_or_init(|| topic)
                }
            };
            if topic.name == outgoing.topic {
                return produce(client, topic.handle, outgoing, opaque);
            }
        }
        let topic = Topic::find(client, outgoing.topic)?;
        produce(client, topic.handle, outgoing, opaque)
    }
}

fn produce(
    client: *mut RDKafka,
    topic: *mut sys::rd_kafka_topic_t,
    outgoing: &mut Outgoing<'_>,
    opaque: usize,
) -> Result<(), ClientError> {
    let (value, value_len) = parts(outgoing.payload);
    let (key, key_len) = parts(outgoing.key);
    let headers = outgoing
        .headers
        .as_ref()
        .map_or(std::ptr::null_mut(), |headers| headers.pointer());
    // SAFETY: the list of arguments follows rd_kafka_producev's tags, each with the types that it wants; everything lives
    // until the call returns; the flag says that librdkafka copies.
    let code = unsafe {
        sys::rd_kafka_producev(
            client,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
            topic,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
            outgoing.partition.unwrap_or(-1),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
            value,
            value_len,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
            key,
            key_len,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
            opaque as *mut c_void,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
            outgoing.timestamp_ms.unwrap_or(0),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
            headers,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        )
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        // They are librdkafka's now.
        std::mem::forget(outgoing.headers.take());
        Ok(())
    } else {
        Err(ClientError::MessageProduction(code.into()))
    }
}

fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((std::ptr::null_mut(), 0), |bytes| {
        (bytes.as_ptr().cast_mut().cast(), bytes.len())
    })
}

/// Headers of a record, built where librdkafka wants them.
#[derive(Debug)]
pub(super) struct NativeHeaders(*mut sys::rd_kafka_headers_t);

// SAFETY: a list that nobody else knows.
unsafe impl Send for NativeHeaders {}
unsafe impl Sync for NativeHeaders {}

impl NativeHeaders {
    pub fn with_capacity(capacity: usize) -> Self {
        // SAFETY: makes a new list.
        Self(unsafe { sys::rd_kafka_headers_new(capacity) })
    }

    pub fn add(&mut self, key: &str, value: Option<&[u8]>) {
        let (value, value_len) = parts(value);
        // SAFETY: librdkafka copies name and value by their lengths.
        unsafe {
            sys::rd_kafka_header_add(
                self.0,
                key.as_ptr().cast(),
                key.len().cast_signed(),
                value,
                value_len.cast_signed(),
            );
        }
    }

    pub fn pointer(&self) -> *mut sys::rd_kafka_headers_t {
        self.0
    }
}

impl Drop for NativeHeaders {
    fn drop(&mut self) {
        // SAFETY: not given to librdkafka, or it would have been forgotten.
        unsafe { sys::rd_kafka_headers_destroy(self.0) }
    }
}

/// Wakes a thread as soon as a client has an event, such as a delivery report. To be dropped before the client.
pub(super) struct Wake {
    queue: *mut sys::rd_kafka_queue_t,
    /// Boxed: librdkafka keeps the address.
    thread: Box<Thread>,
}

// SAFETY: queues are locked inside, and the callback only unparks.
unsafe impl Send for Wake {}
unsafe impl Sync for Wake {}

impl Wake {
    /// Unparks this thread at every event of the client's main queue.
    pub fn this_thread(client: *mut RDKafka) -> Self {
        // SAFETY: the client is alive.
        let queue = unsafe { sys::rd_kafka_queue_get_main(client) };
        let thread = Box::new(std::thread::current());
        let address: *const Thread = &raw const *thread;
        // SAFETY: the address stays valid until `drop`, which takes the callback back first.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(queue, Some(unpark), address.cast_mut().cast());
        }
        Self { queue, thread }
    }

    /// Whether it is the calling thread that is woken.
    pub fn is_this_thread(&self) -> bool {
        self.thread.id() == std::thread::current().id()
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        // SAFETY: after the first call librdkafka calls no more (it holds the queue's lock for a callback); the reference is ours.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, std::ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn unpark(_: *mut RDKafka, thread: *mut c_void) {
    // SAFETY: the thread's handle that `Wake` keeps for as long as the callback is set.
    unsafe { &*thread.cast::<Thread>() }.unpark();
}
