// Segment's own Node library as a sender: node segment_client.mjs URL KEY COUNT PREFIX
import { Analytics } from '@segment/analytics-node'

const [url, writeKey, count, prefix] = process.argv.slice(2)
const errors = []
const analytics = new Analytics({ writeKey, host: url, maxRetries: 10, flushInterval: 500 })
analytics.on('error', (error) => errors.push(String(error.reason ?? error)))
for (let index = 0; index < Number(count); index++) {
  const number = `${prefix}${index}`
  const userId = number
  const calls = [
    () => analytics.track({ userId, event: 'Tracked', properties: { number } }),
    () => analytics.identify({ userId, traits: { number, email: `${number}@example.com` } }),
    () => analytics.page({ userId, category: 'Docs', name: 'Start', properties: { number } }),
    () => analytics.screen({ userId, category: 'App', name: 'Home', properties: { number } }),
    () => analytics.group({ userId, groupId: `group-${number}`, traits: { number } }),
    () => analytics.alias({ userId, previousId: `old-${number}` }),
  ]
  calls[index % 6]()
  await new Promise((resolve) => setTimeout(resolve, 2))
}
await analytics.closeAndFlush({ timeout: 60000 })
console.log(JSON.stringify({ errors }))
