create table billing.invoice (id bigint generated always as identity primary key, order_id bigint not null);
create table billing.reminder (order_id bigint not null, kind text not null);
