create table web.counter (name text primary key, n int not null);
create table web.effect (key text not null);
