//! The W3C trace context of one record or process: which trace, which span of it, and whether it is recorded.
//!
//! On the way of each record that has one, so it is read and written without an allocation. What is no valid `traceparent` is no
//! trace: it is passed on as it came, and nothing is made of it.

use std::fmt;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// The name of the header of a record, or of an HTTP request.
pub const TRACEPARENT: &str = "traceparent";
/// Length of a `traceparent` of the version that there is today.
const LENGTH: usize = 55;
/// The bit of the flags that says that the trace is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent`. Of a later version, what this one knows is taken.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let version = *header.first_chunk::<2>()?;
        let is_first = version == *b"00";
        let length_fits = match header.len() {
            LENGTH => true,
            longer => !is_first && longer > LENGTH && header[LENGTH] == b'-',
        };
        if !length_fits || header[2] != b'-' || header[35] != b'-' || header[52] != b'-' {
            return None;
        }
        let [version] = hexadecimal::<1>(&version)?;
        let trace_id = hexadecimal::<16>(&header[3..35])?;
        let span_id = hexadecimal::<8>(&header[36..52])?;
        let [flags] = hexadecimal::<1>(&header[53..55])?;
        let is_valid = version != 0xff && trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self {
            trace_id,
            span_id,
            flags,
        })
    }

    /// The one `traceparent` among a record's headers. Of two, none is meant.
    pub fn of_headers<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Option<Self> {
        let mut found = None;
        for (key, value) in headers {
            if key == TRACEPARENT {
                if found.is_some() {
                    return None;
                }
                found = Some(value);
            }
        }
        Self::parse(found??)
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Has it recorded, whatever its parent says.
    pub(super) const fn record(&mut self) {
        self.flags |= SAMPLED;
    }

    /// The span.
    pub const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The value of the header for what comes next.
    pub fn header(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hexadecimal(&self.trace_id, &mut text[3..35]);
        write_hexadecimal(&self.span_id, &mut text[36..52]);
        // Of a later version's flags only those that this version has are said again.
        write_hexadecimal(&[self.flags & SAMPLED], &mut text[53..55]);
        text
    }

    /// As the SDK has it.
    pub(super) fn span_context(&self, is_remote: bool) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.trace_id),
            SpanId::from_bytes(self.span_id),
            TraceFlags::new(self.flags & SAMPLED),
            is_remote,
            TraceState::NONE,
        )
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.header()))
    }
}

/// Makes the numbers of traces and spans; one for each thread.
#[derive(Debug)]
pub struct Ids(SmallRng);

impl Ids {
    /// Begins with what the system has of chance.
    pub fn new() -> Self {
        Self(SmallRng::from_os_rng())
    }

    /// A span below `parent` in the same trace, or the first of a recorded one.
    pub fn below(&mut self, parent: Option<&TraceContext>) -> TraceContext {
        let span_id = self.not_zero();
        match parent {
            Some(parent) => TraceContext { span_id, ..*parent },
            None => TraceContext {
                trace_id: self.not_zero(),
                span_id,
                flags: SAMPLED,
            },
        }
    }

    /// True for this share of the questions.
    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.0.random::<f64>() < share
    }

    /// Zero is no number of a trace or a span.
    fn not_zero<const N: usize>(&mut self) -> [u8; N] {
        loop {
            let mut bytes = [0; N];
            self.0.fill(&mut bytes[..]);
            if bytes != [0; N] {
                return bytes;
            }
        }
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// Lower case only, as the recommendation wants it.
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write_hexadecimal(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let context = TraceContext::parse(GOOD.as_bytes()).expect("a good one");
        assert!(context.is_sampled());
        assert_eq!(context.header(), GOOD.as_bytes());
        assert_eq!(format!("{context:?}"), GOOD);
        let said = context.span_context(true);
        assert_eq!(said.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(said.span_id().to_string(), "b7ad6b7169203331");
        assert!(said.is_sampled() && said.is_remote());
        let not_recorded = GOOD.replace("-01", "-00");
        assert!(
            !TraceContext::parse(not_recorded.as_bytes())
                .expect("good")
                .is_sampled()
        );
    }

    #[test]
    fn what_the_recommendation_forbids_is_no_trace() {
        let zeros = "0".repeat(32);
        for wrong in [
            "",
            "0",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replacen("00-", "0x-", 1),
            &GOOD.replacen("0af7651916cd43dd8448eb211c80319c", &zeros, 1),
            &GOOD.replacen("b7ad6b7169203331", &zeros[..16], 1),
            &GOOD.replacen('-', "_", 1),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replacen("0af7", "0ä7", 1),
        ] {
            assert_eq!(TraceContext::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = format!("{}-more", GOOD.replacen("00-", "01-", 1));
        let context = TraceContext::parse(later.as_bytes()).expect("readable");
        assert_eq!(context.header(), GOOD.as_bytes(), "and passed on as this version");
        assert!(TraceContext::parse(later.replace("-more", ".more").as_bytes()).is_none());
    }

    #[test]
    fn of_two_headers_none_is_meant() {
        let good = Some(GOOD.as_bytes());
        let one = [("x", None), (TRACEPARENT, good), ("tracestate", good)];
        assert!(TraceContext::of_headers(one.into_iter()).is_some());
        let two = [(TRACEPARENT, good), (TRACEPARENT, good)];
        assert!(TraceContext::of_headers(two.into_iter()).is_none());
        assert!(TraceContext::of_headers([(TRACEPARENT, None)].into_iter()).is_none());
        assert!(TraceContext::of_headers(std::iter::empty()).is_none());
    }

    #[test]
    fn a_span_below_another_is_of_its_trace() {
        let mut ids = Ids::new();
        let parent = TraceContext::parse(GOOD.as_bytes()).expect("good");
        let below = ids.below(Some(&parent));
        assert_eq!((below.trace_id, below.is_sampled()), (parent.trace_id, true));
        assert_ne!(below.span_id, parent.span_id);
        let first = ids.below(None);
        assert!(first.is_sampled() && first.trace_id != parent.trace_id);
        assert_eq!(TraceContext::parse(&first.header()), Some(first));
    }

    #[test]
    fn a_share_is_kept() {
        let mut ids = Ids::new();
        assert!(!ids.chance(0.0) && ids.chance(1.0));
        let hits = (0..10_000).filter(|_| ids.chance(0.25)).count();
        assert!((2_000..3_000).contains(&hits), "{hits} of 10000");
    }
}
