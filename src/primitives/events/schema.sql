create table rung.subscription (
  event text not null,
  group_name text not null,
  queue text not null,
  attempts_max integer not null,
  seen_at timestamptz not null default now(),
  primary key (event, group_name)
);
