/** What every page runs. Single pages bring their own module; see modules.ts. */

import './app.css'
import { startDialogs } from './frame/dialogs'
import { startForms } from './frame/forms'
import { startMenus } from './frame/menus'
import { mountModules } from './frame/mount'
import { startPalette } from './frame/palette'
import { startRequests } from './frame/requests'
import { startTabs } from './frame/tabs'
import { startTheme } from './frame/theme'
import { startToasts } from './frame/toasts'

startTheme()
startMenus()
startTabs()
startDialogs()
startToasts()
startForms()
startPalette()
startRequests()
void mountModules()
