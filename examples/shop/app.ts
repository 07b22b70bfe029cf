import { defineApp } from 'rung'
import { payments } from './payments/module.ts'
import { sales } from './sales/module.ts'
import { tenants } from './tenants/module.ts'

/** Shop, the second reference application: many shops with stock, orders and payments in one service. */
export default defineApp({
  name: 'shop',
  modules: [tenants, payments, sales],
  limits: { user: { max: 1_000, per: '1m' } }, // a shop's own server sends the requests of many
  http: { title: 'Shop', version: '1.0.0', description: 'Shops with stock, orders and payments, served by Rung.' },
})
