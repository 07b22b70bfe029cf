-- What is known of the payment of an order. `asked`: the provider may have charged, and its answer is awaited.
create table payment (
  order_id uuid primary key,
  amount bigint not null,
  currency text not null,
  state text not null default 'asked' check (state in ('asked', 'captured', 'declined', 'refunded', 'void')),
  asked_at timestamptz not null default now()
);

-- Events of the provider that were handled.
create table webhook_event (
  id text primary key,
  received_at timestamptz not null default now()
);

create index webhook_event_received_at_idx on webhook_event (received_at);
