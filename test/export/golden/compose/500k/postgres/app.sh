#!/bin/bash
# Written by rung export. Without this line the file is yours: it is left as it is.
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$DATABASE_PASSWORD" --username postgres <<'SQL'
create role app login password :'password';
grant pg_monitor to app;
create database app owner app;
\connect app
create extension pg_stat_statements;
SQL
