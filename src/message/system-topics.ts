/** Topics that broker groups make for consumer groups (RocketMQ: MixAll). Clients read them, and never write them. */
export const retryPrefix = '%RETRY%'
export const deadLetterPrefix = '%DLQ%'

export function retryTopicOf(group: string): string {
  return `${retryPrefix}${group}`
}

export function deadLetterTopicOf(group: string): string {
  return `${deadLetterPrefix}${group}`
}

export function isSystemTopic(name: string): boolean {
  return name.startsWith('%') || name.toLowerCase().startsWith('rmq_sys_')
}
