create table product (
  tenant_id bigint not null,
  sku text not null,
  name text not null,
  price bigint not null check (price > 0),
  currency text not null,
  -- What is neither sold nor reserved. The check is the last line of defence: no statement may sell what is not there.
  available bigint not null default 0 check (available >= 0),
  primary key (tenant_id, sku)
) with (fillfactor = 80); -- room for `available` to change in place

-- placed → paid → shipped, or one of the ends: declined (by the provider), cancelled, expired.
create table customer_order (
  id uuid primary key default gen_random_uuid(),
  number bigint generated always as identity,
  tenant_id bigint not null,
  customer_id bigint not null,
  state text not null default 'placed'
    check (state in ('placed', 'paid', 'shipped', 'declined', 'cancelled', 'expired')),
  currency text not null,
  total bigint not null check (total > 0),
  placed_at timestamptz not null default now()
) with (fillfactor = 80);

create index customer_order_tenant_id_number_idx on customer_order (tenant_id, number);
create index customer_order_tenant_id_customer_id_number_idx on customer_order (tenant_id, customer_id, number);

-- With name and price as they were at that moment.
create table order_line (
  order_id uuid not null references customer_order (id),
  sku text not null,
  name text not null,
  price bigint not null,
  quantity integer not null check (quantity > 0),
  primary key (order_id, sku)
);

-- Each transfer is two entries of one statement, whose sum is 0. The key makes it happen once for an order.
create table ledger_entry (
  id bigint generated always as identity primary key,
  tenant_id bigint not null,
  order_id uuid not null references customer_order (id),
  transfer text not null check (transfer in ('capture', 'release', 'refund')),
  account text not null check (account in ('provider', 'held', 'earned')),
  amount bigint not null,
  currency text not null,
  entered_at timestamptz not null default now(),
  constraint ledger_entry_once unique (order_id, transfer, account)
);

create index ledger_entry_tenant_id_id_idx on ledger_entry (tenant_id, id);
