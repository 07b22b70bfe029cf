-- The clock of a test database. Unqualified calls of now() and its siblings find these functions, because the database's search_path
-- names this schema before pg_catalog. CURRENT_TIMESTAMP and CURRENT_DATE are keywords, and keep the time of the machine.
create schema rung_clock;

create table rung_clock.shift (ahead_ms float8 not null);
insert into rung_clock.shift values (0);

create function rung_clock.ahead() returns interval language sql stable as
  $$ select ahead_ms * interval '1 millisecond' from rung_clock.shift $$;

create function rung_clock.now() returns timestamptz language sql stable as
  $$ select pg_catalog.now() + rung_clock.ahead() $$;
create function rung_clock.transaction_timestamp() returns timestamptz language sql stable as
  $$ select pg_catalog.now() + rung_clock.ahead() $$;
create function rung_clock.statement_timestamp() returns timestamptz language sql stable as
  $$ select pg_catalog.statement_timestamp() + rung_clock.ahead() $$;
create function rung_clock.clock_timestamp() returns timestamptz language sql volatile as
  $$ select pg_catalog.clock_timestamp() + rung_clock.ahead() $$;
