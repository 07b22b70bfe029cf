-- What the processes of the app measured, for months: a row has frames, each of which is all that one process counted in a stretch
-- of time. Each moment of a process is in one frame. Frames become fewer with age: several are replaced by their sum.
create table rung.frame (
  -- The resolution: 60, 600, 3600. A row is for a minute, an hour or a day.
  seconds int not null,
  started_at timestamptz not null,
  node text not null,
  ended_at timestamptz not null,
  -- JSON, compressed by zstd.
  content bytea not null,
  primary key (seconds, started_at, node)
);
-- It is compressed already.
alter table rung.frame alter column content set storage external;
