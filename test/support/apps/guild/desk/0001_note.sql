create table desk.note (
  id text primary key
);
