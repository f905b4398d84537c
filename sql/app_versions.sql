-- Which versions of the app do people log in with, and since and until when?
--
-- One row for each version, the one with the most logins first.
--
--   rank              1 has the most logins; equal ones by the text of the version
--   app_version       the version, or unknown where the event did not say
--   logins            logins with it
--   share             fraction of all logins, 0 to 1
--   first_login_date  date (UTC) of its first login
--   last_login_date   date (UTC) of its last login
--
-- Parameters:
--   $from    date = NULL  first date (UTC) that counts; NULL is every one
--   $to      date = NULL  last date (UTC) that counts; NULL is every one
--   $region  text = NULL  only logins of this region, as West; NULL is every region
WITH versions AS (
    SELECT
        app_version,
        count(*) AS logins,
        min(login_date) AS first_login_date,
        max(login_date) AS last_login_date
    FROM logins
    WHERE ($from IS NULL OR login_date >= $from)
        AND ($to IS NULL OR login_date <= $to)
        AND ($region IS NULL OR region = $region)
    GROUP BY app_version
)
SELECT
    row_number() OVER (ORDER BY logins DESC, app_version) AS rank,
    app_version,
    logins,
    CAST(logins AS DOUBLE) / sum(logins) OVER () AS share,
    first_login_date,
    last_login_date
FROM versions
ORDER BY rank;
