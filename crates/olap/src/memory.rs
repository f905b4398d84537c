//! How the commands take memory from the system, and give it back.

/// `mi_option_purge_delay` of mimalloc 3; the crate that binds it has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// For how long memory that is free is kept for the next who wants some, milliseconds. By default it is a second: what a
/// batch took is then still there when the next ones have taken theirs, because threads do not share it.
const PURGE_DELAY_MS: std::ffi::c_long = 50;
/// The same for ingestion, which takes the same amounts again and again.
const PURGE_DELAY_INGEST_MS: std::ffi::c_long = 100;

/// Keeps what is resident near what is used: no huge pages, and free memory goes back soon. To be called first.
///
/// Measured: compaction of 5,000,000 rows 683 MiB before, 242 to 437 MiB with delays of 10 to 100 ms, at the same speed; a
/// query of 20,000,000 rows 190 MiB with huge pages, 95 MiB without.
pub fn stay_small() {
    loginlake_service::memory::without_huge_pages();
    set_purge_delay(PURGE_DELAY_MS);
}

/// Ingestion of a backlog: 715,000 records/s and 190 MiB with 50 ms, 800,000/s and 205 MiB with 100 ms, 805,000/s and
/// 225 MiB with 200 ms.
pub fn stay_small_while_ingesting() {
    set_purge_delay(PURGE_DELAY_INGEST_MS);
}

fn set_purge_delay(milliseconds: std::ffi::c_long) {
    // Whoever runs it may know better.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: sets a number that the allocator reads; any value is right.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) };
    }
}
