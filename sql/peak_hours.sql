-- At which hours of the day do people log in most, by the clock of UTC and by their own?
--
-- One row for each rank: on the left the UTC hour that has it, on the right the local hour. The first row is the peak.
--
--   rank          1 is the hour with the most logins of its clock; equal ones by hour
--   utc_hour      hour of the day in UTC, 0 to 23
--   utc_logins    logins in that hour
--   utc_share     fraction of all logins, 0 to 1
--   local_hour    hour of the day in the state's time zone, 0 to 23
--   local_logins  logins in that hour
--   local_share   fraction of all logins that have a local hour (those from US states), 0 to 1
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH hours AS (
    SELECT login_hour, local_hour, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY login_hour, local_hour
),
clocks AS (
    SELECT
        CASE WHEN grouping(login_hour) = 0 THEN 'utc' ELSE 'local' END AS clock,
        coalesce(login_hour, local_hour) AS hour_of_day,
        sum(logins) AS logins
    FROM hours
    GROUP BY GROUPING SETS ((login_hour), (local_hour))
),
ranked AS (
    SELECT
        clock,
        hour_of_day,
        logins,
        CAST(logins AS DOUBLE) / sum(logins) OVER (PARTITION BY clock) AS share,
        row_number() OVER (PARTITION BY clock ORDER BY logins DESC, hour_of_day) AS position_of_hour
    FROM clocks
    WHERE hour_of_day IS NOT NULL
)
SELECT
    position_of_hour AS rank,
    max(CASE WHEN clock = 'utc' THEN hour_of_day END) AS utc_hour,
    max(CASE WHEN clock = 'utc' THEN logins END) AS utc_logins,
    max(CASE WHEN clock = 'utc' THEN share END) AS utc_share,
    max(CASE WHEN clock = 'local' THEN hour_of_day END) AS local_hour,
    max(CASE WHEN clock = 'local' THEN logins END) AS local_logins,
    max(CASE WHEN clock = 'local' THEN share END) AS local_share
FROM ranked
GROUP BY position_of_hour
ORDER BY position_of_hour;
