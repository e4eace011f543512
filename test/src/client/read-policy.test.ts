/** Which replica a reader asks. */
import { expect, test } from 'vitest'
import { chooseReplica } from '../../../src/client/consumer/read-policy.ts'

const nodes = ['n0', 'n1', 'n2', 'n3', 'n4'].map((node) => ({ node, address: `${node}:30911` }))
const route = { nodes, leader: { node: 'n0' } } as unknown as Parameters<typeof chooseReplica>[0]

function choose(passedOver: readonly string[], doubtful: readonly string[]): string | undefined {
  return chooseReplica(route, 'follower', {
    usable: ({ node }) => !passedOver.includes(node),
    doubtful: ({ node }) => doubtful.includes(node),
    suggested: '',
    spread: 1,
  })?.node.node
}

test('P8: two followers that hang are not asked in turns while a third one is sound', () => {
  expect(choose([], [])).toBe('n2')
  expect(choose(['n2'], ['n2'])).toBe('n3')
  // n3 hangs, too, and while it did the time of n2 was over.
  expect(choose(['n3'], ['n2', 'n3'])).toBe('n4')
})

test('followers that failed not long ago are asked again when there is no other', () => {
  expect(choose(['n1'], ['n1', 'n2', 'n3', 'n4'])).toBe('n3')
})
