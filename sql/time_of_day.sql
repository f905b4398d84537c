-- At which time of the day do people log in?
--
-- One row for each of night, morning, afternoon and evening that has logins, the one with the most first. The time is
-- the one of the state's own clock, and of UTC where there is no state.
--
--   rank         1 has the most logins; equal ones by name
--   time_of_day  night, morning, afternoon or evening
--   hours        first and last hour of it
--   logins       logins in these hours
--   share        fraction of all logins, 0 to 1
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH times AS (
    SELECT time_of_day, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY time_of_day
)
SELECT
    row_number() OVER (ORDER BY logins DESC, time_of_day) AS rank,
    time_of_day,
    CASE time_of_day
        WHEN 'night' THEN '0 to 5'
        WHEN 'morning' THEN '6 to 11'
        WHEN 'afternoon' THEN '12 to 17'
        WHEN 'evening' THEN '18 to 23'
    END AS hours,
    logins,
    CAST(logins AS DOUBLE) / sum(logins) OVER () AS share
FROM times
ORDER BY rank;
