create table placed (id bigint generated always as identity primary key, note text not null);
-- No constraint: a doubled effect has to show.
create table effect (kind text not null, order_id bigint not null);
