import { defineProof } from 'rung/prove'

interface Shop {
  headers: { authorization: string }
  number: number
  customer: { headers: { authorization: string } }
}

const skus = ['cup', 'pot']
const keyOf = (opened: { key: string }) => ({ authorization: `Token ${opened.key}` })

/** What `rung prove` tries out: the stock of several shops, which neither appears nor vanishes, and is never sold twice. */
export default defineProof<Shop>({
  async users(client) {
    const shops: Shop[] = []
    for (let number = 0; number < 4; number += 1) {
      const headers = keyOf(await client.post('/shops', { name: `Shop ${number}` }))
      const own = client.as({ headers })
      const customer = { headers: keyOf(await own.post('/customers', { name: 'Ann' })) }
      for (const sku of skus) await own.put(`/products/${sku}`, { name: 'new', price: 1_250, currency: 'EUR' })
      shops.push({ headers, number, customer })
    }
    return shops
  },

  registers: [
    {
      name: 'name of',
      keys: ({ number }) => [`pot of ${number}`],
      everybodyReads: false,
      write: (client, _key, name) => client.put('/products/pot', { name, price: 1_250, currency: 'EUR' }),
      read: async (client) => (await client.get<{ name: string }>('/products/pot')).name,
    },
  ],

  accounts: {
    name: 'stock',
    least: 0,
    plan: ({ number }, random) => {
      const sku = skus[Math.floor(random() * skus.length)]!
      return { [`${sku} of ${number}`]: random() < 0.3 ? 5 : -1 }
    },
    change(client, amounts) {
      const [[account, change]] = Object.entries(amounts) as [[string, number]]
      const sku = account.split(' ')[0]!
      if (change > 0) return client.post(`/products/${sku}/stock`, { change })
      const order = { lines: [{ sku, quantity: -change }], source: 'tok' }
      return client.as(client.user.customer).post('/orders', order)
    },
    async levels(client) {
      const { products } = await client.get<{ products: { sku: string; available: number }[] }>('/products')
      return Object.fromEntries(products.map(({ sku, available }) => [`${sku} of ${client.user.number}`, available]))
    },
  },
})
