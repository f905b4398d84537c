-- How many logins were there each day, and is it getting more?
--
-- One row for each date (UTC) that has logins, oldest first.
--
--   login_date     date in UTC
--   day_of_week    Mon to Sun
--   logins         logins of the date
--   change         logins more than on the date before; NULL where that date has none
--   logins_7_days  logins of this date and the six before it
WITH dates AS (
    SELECT login_date, min(day_of_week) AS day_of_week, count(*) AS logins
    FROM logins
    GROUP BY login_date
)
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
ORDER BY login_date;
