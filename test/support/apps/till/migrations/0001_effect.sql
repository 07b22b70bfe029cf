create table till.effect (id bigint generated always as identity, kind text not null, key text not null);
create table till.sequel (at bigint generated always as identity, key text not null);
