-- How many logins were there each day, and is it getting more?
--
-- One row for each date (UTC) that has logins, oldest first.
--
--   login_date     date in UTC
--   day_of_week    Mon to Sun
--   logins         logins of the date
--   change         logins more than on the date before; NULL where that date has none
--   logins_7_days  logins of this date and the six before it
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that is shown; NULL is every one
--   $to      date = NULL  last date (UTC) that is shown; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH dates AS (
    SELECT login_date, min(day_of_week) AS day_of_week, count(*) AS logins
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from - INTERVAL '6' DAY)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY login_date
),
trend AS (
    SELECT
        login_date,
        day_of_week,
        logins,
        CASE
            WHEN lag(login_date) OVER (ORDER BY login_date) = login_date - INTERVAL '1' DAY
                THEN logins - lag(logins) OVER (ORDER BY login_date)
        END AS change,
        sum(logins) OVER (
            ORDER BY login_date RANGE BETWEEN INTERVAL '6' DAY PRECEDING AND CURRENT ROW
        ) AS logins_7_days
    FROM dates
)
SELECT login_date, day_of_week, logins, change, logins_7_days
FROM trend
WHERE $from IS NULL OR login_date >= $from
ORDER BY login_date;
