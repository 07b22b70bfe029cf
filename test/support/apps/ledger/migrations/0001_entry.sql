create table entry (
  id text primary key,
  body text not null default ''
);
create table receipt (
  entry_id text primary key references entry (id)
);
