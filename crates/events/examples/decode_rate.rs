//! Prints what one record costs: decoded, decoded and written as JSON, decoded and appended to Arrow columns.
//!
//! `cargo run --release -p loginlake-events --features arrow --example decode_rate`

use std::hint::black_box;
use std::time::Instant;

use loginlake_events::Contract;
use loginlake_events::columns::{LoginsBuilder, SourcePosition};

const RECORDS: usize = 1_000_000;
const BATCH_ROWS: usize = 100_000;
const FIRST_TIMESTAMP: u64 = 1_720_576_825;

fn main() {
    let contract = Contract::default();
    let payloads = payloads();
    let decode = |payload: &'static [u8]| {
        contract
            .decode(Some(payload), None)
            .expect("generated events are good")
    };

    report("decode", || {
        for payload in payloads {
            black_box(decode(payload));
        }
    });
    report("decode + write_json", || {
        let mut out = Vec::with_capacity(1 << 20);
        for payload in payloads {
            if out.len() > 1 << 19 {
                out.clear();
            }
            decode(payload).write_json(1_720_576_826_000, &mut out);
        }
        black_box(out);
    });
    report("decode + arrow append", || {
        let mut builder = LoginsBuilder::with_capacity(BATCH_ROWS);
        for (offset, payload) in (0..).zip(payloads) {
            let source = SourcePosition {
                kafka_partition: 0,
                kafka_offset: offset,
                kafka_timestamp_ms: None,
            };
            builder.append(&decode(payload), source, 1_720_576_826_000);
            if builder.len() == BATCH_ROWS {
                black_box(builder.finish());
            }
        }
    });
}

fn report(what: &str, run: impl Fn()) {
    run();
    let start = Instant::now();
    run();
    let nanoseconds = start.elapsed().as_nanos() as f64 / RECORDS as f64;
    println!(
        "{what:<24}{nanoseconds:>8.0} ns per record, {:>10.0} records/s",
        1e9 / nanoseconds
    );
}

/// Events as the original generator emits them, from a fixed seed. They live until the process ends.
fn payloads() -> &'static [&'static [u8]] {
    let locales = ["RI", "CA", "TX", "NY", "AZ", "HI", "RU", "PR"];
    let devices = [
        ",\"device_type\":\"iOS\"",
        ",\"device_type\":\"android\"",
        ",\"device_type\":\"web\"",
        "",
    ];
    let mut state = 42u64;
    // SplitMix64.
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let payloads: Vec<&'static [u8]> = (0..RECORDS as u64)
        .map(|number| {
            let (user, device, choice) = (next(), next(), next());
            let [a, b, c, d, ..] = choice.to_be_bytes();
            let payload = format!(
                "{{\"user_id\":\"{:08x}-1649-4859-ae5f-{:012x}\",\"app_version\":\"2.3.{}\",\"ip\":\"{a}.{b}.{c}.{d}\",\
                 \"locale\":\"{}\",\"device_id\":\"{:08x}-89b5-4585-8c98-{:012x}\",\"timestamp\":{}{}}}",
                user >> 32,
                user & 0xffff_ffff_ffff,
                choice % 10,
                locales[(choice >> 8) as usize % locales.len()],
                device >> 32,
                device & 0xffff_ffff_ffff,
                FIRST_TIMESTAMP + number / 10,
                devices[(choice >> 16) as usize % devices.len()],
            );
            &*payload.into_bytes().leak()
        })
        .collect();
    payloads.leak()
}
