-- What the functions of this field answer.
SELECT cidr, ip, cidr_contains(cidr, ip) AS contains
FROM (VALUES
    ('10.0.0.0/8', '10.1.2.3'),
    ('10.0.0.0/8', '11.0.0.0'),
    ('10.0.0.0/8', '::ffff:10.1.2.3'),
    ('0.0.0.0/0', '::1'),
    ('2001:db8::/32', '2001:db8::1'),
    ('2001:db8::/32', '2001:db9::1'),
    ('192.0.2.7', '192.0.2.7'),
    ('10.0.0.0/8', 'a pseudonym'),
    ('no network', '10.1.2.3'),
    (NULL, '10.1.2.3'),
    ('10.0.0.0/8', NULL)
) AS t(cidr, ip);

SELECT ip, ip_prefix(ip, 0) AS p0, ip_prefix(ip, 16) AS p16, ip_prefix(ip, 24) AS p24, ip_prefix(ip, 48) AS p48
FROM (VALUES ('108.228.145.239'), ('2001:db8:a:b::1'), ('::ffff:108.228.145.239'), ('a pseudonym'), (NULL)) AS t(ip);

SELECT a, b, version_compare(a, b) AS compared
FROM (VALUES
    ('2.3.0', '2.10.0'),
    ('2.3', '2.3.0'),
    ('v2.3.0', '2.3.0'),
    ('2.3.0-beta', '2.3.0'),
    ('2.3.0-beta.2', '2.3.0-beta.10'),
    ('2.3.0+7', '2.3.0'),
    ('10.0.0', '9.9.9'),
    ('unknown', '2.3.0'),
    (NULL, '2.3.0'),
    ('2.3.0', NULL)
) AS t(a, b);

SELECT locale, region_of(locale) AS region
FROM (VALUES ('CA'), ('ri'), ('en-TX'), ('PR'), ('DE'), ('US'), ('unknown'), ('California'), (NULL)) AS t(locale);

-- Summer and winter, the hour that comes twice and the one that never comes, two zones in one state, none at all.
SELECT at, locale, local_time(at, locale) AS local_time
FROM (VALUES
    (TIMESTAMP '2026-07-01T12:00:00Z', 'NY'),
    (TIMESTAMP '2026-01-01T12:00:00Z', 'NY'),
    (TIMESTAMP '2026-01-01T02:00:00Z', 'CA'),
    (TIMESTAMP '2026-11-01T05:30:00Z', 'NY'),
    (TIMESTAMP '2026-11-01T06:30:00Z', 'NY'),
    (TIMESTAMP '2026-03-08T06:59:59Z', 'NY'),
    (TIMESTAMP '2026-03-08T07:00:00Z', 'NY'),
    (TIMESTAMP '2026-07-01T12:00:00Z', 'AZ'),
    (TIMESTAMP '2026-07-01T12:00:00Z', 'FL'),
    (TIMESTAMP '2026-07-01T12:00:00Z', 'DE'),
    (TIMESTAMP '2026-07-01T12:00:00Z', 'PR'),
    (TIMESTAMP '2026-07-01T12:00:00Z', 'unknown'),
    (TIMESTAMP '1969-07-01T12:00:00Z', 'NY'),
    (NULL, 'NY'),
    (TIMESTAMP '2026-07-01T12:00:00Z', NULL)
) AS t(at, locale);

SELECT
    cidr_contains('10.0.0.0/8', '10.1.2.3') AS contains,
    ip_prefix('2001:db8::1', 48) AS prefix,
    version_compare('2.3.0', '2.10.0') AS compared,
    region_of('RI') AS region,
    cidr_contains(NULL, '10.1.2.3') AS null_cidr,
    ip_prefix('10.1.2.3', NULL) AS null_bits,
    version_compare(NULL, NULL) AS null_versions,
    region_of(NULL) AS null_locale,
    local_time(NULL, 'NY') AS null_time;
