-- Each new build that was started here. One that "rung up" or "rung deploy" started is recorded by the supervisor.
create table rung.deploy (
  id bigint generated always as identity primary key,
  build text not null,
  previous text,
  rung text not null,
  started_by text not null,
  outcome text not null,
  reason text,
  migrations text[] not null default '{}',
  started_at timestamptz not null default now(),
  ended_at timestamptz
);
