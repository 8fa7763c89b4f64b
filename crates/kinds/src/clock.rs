//! Moments as people and programs read them. Pure: nobody asks a clock here.

/// A moment, in seconds since 1970, as RFC 3339 in UTC: `2026-11-25T18:10:00Z`.
pub(crate) fn moment(seconds: i64) -> String {
    let (day, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    format!("{}T{:02}:{:02}:{:02}Z", date_of(day), rest / 3600, rest / 60 % 60, rest % 60)
}

/// Its day alone: `2026-11-25`.
pub(crate) fn date(seconds: i64) -> String {
    date_of(seconds.div_euclid(86_400))
}

/// A day by its number since 1970, in the calendar of today. Years are counted from March, so that a leap day is their last,
/// and in eras of 400 years, which have 146,097 days each.
fn date_of(day: i64) -> String {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_the_calendar_has_them() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(moment(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(moment(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(moment(-1), "1969-12-31T23:59:59Z");
        assert_eq!(date(1_795_630_200), "2026-11-25");
    }
}
