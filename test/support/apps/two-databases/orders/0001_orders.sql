create table orders.placed (id bigint generated always as identity primary key, note text not null);
create table orders.paid (order_id bigint not null, invoice bigint not null);
