-- The minute until which alerts are evaluated. Who evaluates the next one locks this row, so that each minute counts once.
create table rung.alert_look (
  evaluated_until timestamptz not null
);
create unique index alert_look_once on rung.alert_look ((true));

-- What has begun: pending, or firing.
create table rung.alert (
  rule text not null,
  -- As JSON with sorted keys.
  labels text not null,
  state text not null,
  since timestamptz not null,
  fired_at timestamptz,
  quiet_since timestamptz,
  value float8 not null,
  acknowledged_at timestamptz,
  acknowledged_by text,
  incident bigint,
  primary key (rule, labels)
);

create table rung.incident (
  id bigint generated always as identity primary key,
  title text not null,
  -- 'alert' or 'hand'. One that alerts opened is closed with the last of them.
  opened_by text not null,
  opened_at timestamptz not null,
  acknowledged_at timestamptz,
  acknowledged_by text,
  closed_at timestamptz
);

-- Its timeline. Deploys and starts of processes are not here: they are read where they are recorded.
create table rung.incident_entry (
  id bigint generated always as identity primary key,
  incident bigint not null references rung.incident on delete cascade,
  at timestamptz not null,
  kind text not null,
  text text not null
);
create index incident_entry_incident on rung.incident_entry (incident, at);
