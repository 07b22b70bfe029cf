create table tenant (
  id bigint generated always as identity primary key,
  name text not null,
  created_at timestamptz not null default now()
);

create table customer (
  id bigint generated always as identity primary key,
  tenant_id bigint not null references tenant (id),
  name text not null,
  created_at timestamptz not null default now()
);

create index customer_tenant_id_idx on customer (tenant_id);

-- Keys of shops, and of customers. Only digests are kept: a key is 32 random bytes, so that a fast one is enough.
create table api_key (
  digest bytea primary key,
  tenant_id bigint not null references tenant (id),
  customer_id bigint references customer (id)
);

create index api_key_tenant_id_idx on api_key (tenant_id);
create index api_key_customer_id_idx on api_key (customer_id);
