/** The modules of single pages: loaded when an element with `data-module="name"` is on the page. */

export interface PageModule {
  /** Bring `element` to life; the returned function undoes it when the element leaves the page. */
  mount(element: HTMLElement): () => void
}

/** One line for each module: its name in templates, and how to load it. */
export const modules: Record<string, () => Promise<PageModule>> = {
  bell: () => import('./bell'),
  caption: () => import('./caption'),
  dataset: () => import('./dataset'),
  uploads: () => import('./uploads'),
  'compare-slider': () => import('./compare-slider'),
  passkey: () => import('./passkey'),
  'job-bars': () => import('./job-bars'),
  'time-zone': () => import('./time-zone'),
  'training-form': () => import('./training-form'),
  'training-page': () => import('./training-page'),
}
