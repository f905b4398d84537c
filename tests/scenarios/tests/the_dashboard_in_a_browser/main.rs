//! The dashboard as people see it, in a real browser: what it shows is what the API says, on every instance; hostile values stay
//! text; it pauses, says when it is stale, and comes back by itself; it can be used with a keyboard, a screen reader, a phone.
//!
//! - [`numbers`]: what it shows is right, and nothing but text
//! - [`conditions`]: what it says of itself: paused, stale, logged out, an unusual day
//! - [`people`]: everybody can use it
//! - [`page`]: an instance, its API, and what is on its page

mod conditions;
mod numbers;
mod page;
mod people;

use std::process::ExitCode;
use std::time::Duration;

use loginlake_scenarios::parts::Part;
use loginlake_scenarios::{entries, runner};

use conditions::{
    a_session_that_has_ended_is_told, an_unusual_day_is_seen_at_once,
    it_pauses_tells_that_it_is_stale_and_comes_back,
};
use numbers::{every_instance_shows_the_whole_group, hostile_values_stay_text, the_demo_shows_it};
use people::everybody_can_use_it;

const LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Browser];
        every_instance_shows_the_whole_group,
        hostile_values_stay_text,
        it_pauses_tells_that_it_is_stale_and_comes_back,
        an_unusual_day_is_seen_at_once,
        a_session_that_has_ended_is_told,
        everybody_can_use_it,
        the_demo_shows_it,
    ])
}
